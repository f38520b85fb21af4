"""The models that the page can ask: pushed versions, trained ones of others, one behind a server; few loaded at a time.

A pushed folder is looked at anew at each call, so that a version which was pushed meanwhile is listed and, being the
newest, is the default. A trained model that is not here yet is fetched when somebody asks for it, by a process of its
own: that imports TensorFlow, and ends when nobody waits any more.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from preprocessing.clip_format import PAPER_CLIP
from preprocessing.errors import AutotagError
from serving.model_info import MODEL_INFO_NAME, ModelInfo, read_model_info
from serving.model_versions import SAVED_MODEL_NAME, version_folders
from serving.page.answers import PageError
from serving.page.apart import Say, run_apart
from serving.page.work import Check
from serving.pretrained.cache import cached_version
from serving.pretrained.catalogue import CATALOGUE, TrainedModel
from serving.tagging.sources import LocalModel, ServedModel, TagSource

if TYPE_CHECKING:
    from serving.client import TagClient

Kind = Literal["pushed", "pretrained", "served"]

MOST_VERSIONS: Final = 20
"""Of one pushed folder that are listed, the newest."""
SHOWN_SPLITS: Final = ("test", "valid")
FETCH_LOOK_SECONDS: Final = 0.5
SERVER_SECONDS: Final = 2.0
"""So long the list waits for a server, which may take a minute not to answer."""
CARD_SECONDS: Final = 15.0
"""So long a server's card counts."""


@dataclass(frozen=True)
class Listed:
    """A model of the list.

    Attributes:
        name: by which the page names it.
        kind: where it is.
        folder: of the version; None where it is not here.
    """

    name: str
    kind: Kind
    folder: Path | None


class Models:
    """All models there are.

    Args:
        pushed: versions, or folders of numbered ones, as the person named them; the first one's newest is the default.
        trained: names out of the catalogue.
        client: of a server; None for none.
        address: of that server, for people.
        default: name out of the catalogue that is the default where nothing was pushed.
        at_once: how many are kept loaded; the one that was not used for longest goes.
        load: loads a version from (folder, name).
    """

    def __init__(
        self,
        pushed: Sequence[str] = (),
        trained: Sequence[str] = tuple(CATALOGUE),
        *,
        client: TagClient | None = None,
        address: str = "",
        default: str | None = None,
        at_once: int = 3,
        load: Callable[[Path, str], TagSource] = lambda folder, name: LocalModel(folder, name=name),
    ) -> None:
        self.at_once = at_once
        self._pushed, self._trained = tuple(pushed), tuple(trained)
        self._client, self._address, self._default = client, address, default
        self._load = load
        self._loaded: OrderedDict[tuple[Path, int], TagSource] = OrderedDict()
        self._loading = threading.Lock()
        self._fetching = threading.Lock()
        self._served: ServedModel | None = None
        self._asked = None if client is None else _AskedCard(client, address)
        self._infos: dict[Path, tuple[int, ModelInfo, float]] = {}

    def listed(self) -> list[Listed]:
        """Return all models, pushed ones first, each folder's newest version first."""
        found: dict[str, Listed] = {}
        for given in self._pushed:
            for name, folder in _versions(given):
                found.setdefault(name, Listed(name, "pushed", folder))
        if self._client is not None:
            found.setdefault(self._address, Listed(self._address, "served", None))
        for name in self._trained:
            found.setdefault(name, Listed(name, "pretrained", cached_version(name)))
        return list(found.values())

    def default(self) -> str | None:
        """Return the name of the model that is asked unless another one is chosen; None where there is none."""
        models = self.listed()
        chosen = [model for model in models if model.name == self._default]
        here = [model for model in models if model.kind != "pretrained" or model.folder is not None]
        return next((model.name for model in [*chosen, *here, *models]), None)

    def cards(self) -> list[dict[str, Any]]:
        """Return what is known of each model, as the page shows it. Asks the server, where there is one."""
        default = self.default()
        return [{**self._card(model), "default": model.name == default} for model in self.listed()]

    def find(self, *names: str) -> list[Listed]:
        """Return models of the list.

        Raises:
            PageError: there is none of a name.
        """
        known = {model.name: model for model in self.listed()}
        for name in names:
            if name not in known:
                raise PageError(404, f"there is no model {name[:80]!r} in the list")
        return [known[name] for name in names]

    def source(self, name: str, say: Say, check: Check) -> TagSource:
        """Return a model, loaded; it is fetched first where it is not here.

        Args:
            name: in the list.
            say: takes lines that say what is being done.
            check: told when nobody waits any more.

        Raises:
            PageError: there is none of that name.
            BadInputError: it cannot be loaded.
            AutotagError: it cannot be fetched.
            GoneError: nobody waits any more.
        """
        (model,) = self.find(name)
        if model.kind == "served":
            return self._of_server()
        folder = model.folder or self._fetched(name, say, check)
        with self._loading:
            check()
            folder = folder.resolve()
            key = folder, _changed(folder)
            if key not in self._loaded:
                for other in [other for other in self._loaded if other[0] == folder]:
                    del self._loaded[other]
                say(f"loading {name}")
                while len(self._loaded) >= self.at_once:
                    self._loaded.popitem(last=False)
                self._loaded[key] = self._load(folder, name)
            self._loaded.move_to_end(key)
            return self._loaded[key]

    def _of_server(self) -> ServedModel:
        with self._loading:
            if self._served is None:
                assert self._client is not None
                self._served = ServedModel(self._client, self._address, 1)
            return self._served

    def _fetched(self, name: str, say: Say, check: Check) -> Path:
        waiting = False
        while not self._fetching.acquire(timeout=FETCH_LOOK_SECONDS):
            check()
            if not waiting:
                say("another model is being fetched: waiting for it")
            waiting = True
        try:
            return cached_version(name) or run_apart(fetch, name, say=say, check=check)
        finally:
            self._fetching.release()

    def _card(self, model: Listed) -> dict[str, Any]:
        trained = CATALOGUE.get(model.name) if model.kind == "pretrained" else None
        card: dict[str, Any] = {"name": model.name, "kind": model.kind, "here": True, "notes": ""}
        try:
            if model.kind == "served":
                assert self._asked is not None
                info = self._asked.info()
                return {**card, **(_info_card(info) if info else _unknown_card()), "megabytes": None}
            if model.folder is not None:
                info, megabytes = self._info(model.folder)
                return {
                    **card,
                    **_info_card(info),
                    "megabytes": megabytes,
                    **(_trained_card(trained) if trained else {}),
                }
        except AutotagError as error:
            return {**card, "here": False, **_unknown_card(), "notes": str(error)}
        assert trained is not None
        return {
            **card,
            "here": False,
            "parameters": trained.parameters,
            "megabytes": None if trained.size is None else round(trained.size / 1e6, 1),
            "tags": len(trained.tags()),
            "window_seconds": PAPER_CLIP.seconds,
            **_trained_card(trained),
        }

    def _info(self, folder: Path) -> tuple[ModelInfo, float]:
        """The card of a version and its weights' megabytes; read again when the card's file changes."""
        changed = _changed(folder)
        kept = self._infos.get(folder)
        if kept is None or kept[0] != changed:
            weights = [path.stat().st_size for path in (folder / "variables").glob("*") if path.is_file()]
            kept = self._infos[folder] = changed, read_model_info(folder), round(sum(weights) / 1e6, 1)
        return kept[1], kept[2]


class _AskedCard:
    """A server's card, asked in a thread: whoever wants to know waits a little, and others with it."""

    def __init__(self, client: TagClient, address: str) -> None:
        self._client, self._address = client, address
        self._lock = threading.Lock()
        self._answer: Future[ModelInfo | None] | None = None
        self._since = 0.0

    def info(self) -> ModelInfo | None:
        """Return it; None of a model that has none.

        Raises:
            AutotagError: the server does not say.
        """
        with self._lock:
            old = time.monotonic() - self._since > CARD_SECONDS
            if self._answer is None or (old and self._answer.done()):
                self._answer, self._since = Future(), time.monotonic()
                threading.Thread(target=self._ask, args=(self._answer,), daemon=True).start()
            answer = self._answer
        try:
            return answer.result(SERVER_SECONDS)
        except FutureTimeoutError:
            raise AutotagError(f"{self._address} has not answered yet") from None

    def _ask(self, answer: Future[ModelInfo | None]) -> None:
        try:
            answer.set_result(self._client.card().info)
        except Exception as error:
            answer.set_exception(error)


def _changed(folder: Path) -> int:
    """When a version's card was written, ns since 1970; -1 where it has none."""
    try:
        return (folder / MODEL_INFO_NAME).stat().st_mtime_ns
    except OSError:
        return -1


def _versions(given: str) -> list[tuple[str, Path]]:
    """The versions in a folder, or itself where it is one, with their names; none where nothing is pushed yet."""
    folder = Path(given)
    if (folder / SAVED_MODEL_NAME).is_file():
        return [(given.rstrip("/"), folder)]
    try:
        newest = version_folders(folder)[-MOST_VERSIONS:][::-1]
    except OSError:
        return []
    return [(f"{given.rstrip('/')}/{path.name}", path) for path in newest]


def _info_card(info: ModelInfo) -> dict[str, Any]:
    split = next((split for split in SHOWN_SPLITS if split in info.scores), None)
    scores = None if split is None else info.scores[split]
    members = " + ".join(member.name for member in info.members)
    licences = dict.fromkeys([info.origin.licence if info.origin else "", info.data.licence])
    return {
        "title": f"{members} ({info.combiner.kind})" if info.combiner else members,
        "data": info.data.name,
        "licence": "; ".join(filter(None, licences)),
        "scores": scores and {"roc_auc": scores.roc_auc, "pr_auc": scores.pr_auc, "split": split},
        "parameters": info.parameters,
        "tags": len(info.tags),
        "window_seconds": info.clip.seconds,
        "notes": info.origin.notes if info.origin else "",
    }


def _trained_card(model: TrainedModel) -> dict[str, Any]:
    known = model.roc_auc is not None or model.pr_auc is not None
    return {
        "title": f"{model.network} trained on {model.trained_on}",
        "data": model.trained_on,
        "licence": f"{model.licence}; data: {model.data_licence}",
        "scores": {"roc_auc": model.roc_auc, "pr_auc": model.pr_auc, "split": model.split} if known else None,
        "notes": model.notes,
    }


def _unknown_card() -> dict[str, Any]:
    unknown = ("scores", "parameters", "megabytes", "tags", "window_seconds")
    return {"title": "", "data": "", "licence": "", **dict.fromkeys(unknown)}


def fetch(say: Say, name: str) -> Path:
    """Return a trained model's version, fetched and converted; errors as of serving.pretrained.ready."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    from serving.pretrained.ready import ready_version

    return ready_version(name, say)
