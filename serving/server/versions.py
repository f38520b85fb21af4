"""Which version of the model answers to which label, in the files and in running servers.

TF Serving takes a whole configuration by HandleReloadConfig and cannot be asked for the one that it has, so what was
promoted is kept in ``labels.json`` beside the versions, from which the configuration is made anew each time:

- without labels, the two newest versions are loaded, and a push is served as soon as it is seen;
- with labels, nothing is loaded but the versions that a label names and, for each label, the one that it named before
  (so that a rollback is a matter of a moment), if that is older than the newest labelled one: a request that names
  neither label nor version goes to the highest version that is loaded, which must not be one that was rolled back.

The server refuses a label for a version that is not loaded yet. So a move is three reloads: load what is wanted beside
what is there; wait until it is available everywhere; move the labels; and, when that is written down, unload the rest.
No request fails meanwhile. Where a server refuses, what was done is taken back.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import text_format

from preprocessing import whole_files
from preprocessing.digits import is_number
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.locks import hold
from serving.client import messages
from serving.client.grpc_transport import open_channel
from serving.client.target import Target
from serving.model_info import SAVED_MODEL_NAME

MODEL_NAME: Final = "autotag"
LABELS_NAME: Final = "labels.json"
LOCK_NAME: Final = ".labels.lock"
FOLLOWED_VERSIONS: Final = 2
"""How many of the newest versions are loaded where nothing was promoted yet."""
HISTORY_LENGTH: Final = 20
"""How many versions a label can be rolled back."""

AVAILABLE: Final = 30
"""ModelVersionStatus.State: loaded and answering."""
STATE_NAMES: Final = {0: "unknown", 10: "start", 20: "loading", 30: "available", 40: "unloading", 50: "unloaded"}
POLL_SECONDS: Final = 0.2
CONNECT_SECONDS: Final = 2.0
STALE_SECONDS: Final = 5.0
"""A server sees a new configuration's versions after its next look at the folder (1 s); until then it may still report
the end of an earlier attempt to load the version."""

_LABEL = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Labels:
    """What each label names, and what it named before.

    Attributes:
        current: version by label.
        before: versions that a label named earlier, the latest last; what a rollback goes back to.
    """

    current: Mapping[str, int] = field(default_factory=dict)
    before: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def promoted(self, label: str, version: int | None) -> Labels:
        """Return the labels with ``label`` at ``version``, or without it (None).

        Raises:
            BadInputError: no proper label, or nothing would change.
        """
        if not _LABEL.fullmatch(label):
            raise BadInputError(f"{label!r} is no label: use up to 64 letters, digits, '.', '_' and '-', as in stable")
        old = self.current.get(label)
        if old == version:
            raise BadInputError(f"{label} is {'not set' if version is None else f'version {version}'} already")
        current = {name: number for name, number in self.current.items() if name != label}
        if version is not None:
            current[label] = version
        history = self.before.get(label, ())
        if old is not None:
            history = (*(number for number in history if number != old), old)[-HISTORY_LENGTH:]
        return Labels(current, {**self.before, label: history})

    def rolled_back(self, label: str, present: Collection[int] | None = None) -> Labels:
        """Return the labels with ``label`` at the version that it named before, if it is still there.

        Args:
            present: versions that are there; None where that is not known.

        Raises:
            BadInputError: there is none to go back to.
        """
        history = self.before.get(label, ())
        usable = [number for number in history if present is None or number in present]
        if not usable:
            gone = f" ({', '.join(map(str, history))} were deleted)" if history else ""
            raise BadInputError(
                f"{label} cannot be rolled back: it named no other version before{gone}. `autotag promote --show` "
                f"lists what there is, and `autotag promote VERSION --label {label}` names another"
            )
        return Labels({**self.current, label: usable[-1]}, {**self.before, label: history[: history.index(usable[-1])]})

    def loaded(self, present: Collection[int] | None = None) -> tuple[int, ...]:
        """Return the versions to be loaded, in order; () where nothing is labelled and the newest are followed."""
        labelled = set(self.current.values())
        standby = {history[-1] for label, history in self.before.items() if history and label in self.current}
        kept = {
            number for number in standby if number < max(labelled, default=0) and (present is None or number in present)
        }
        return tuple(sorted(labelled | kept)) if labelled else ()

    def to_json(self) -> str:
        """Return the text of ``labels.json``."""
        return json.dumps({"labels": dict(self.current), "before": dict(self.before)}, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Labels:
        """Read the text of ``labels.json``.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is something else.
        """
        data = json.loads(text)
        current = {label: int(version) for label, version in data["labels"].items()}
        before = {label: tuple(map(int, versions)) for label, versions in data["before"].items()}
        if not all(_LABEL.fullmatch(label) for label in (*current, *before)):
            raise ValueError("a label has other characters than letters, digits, '.', '_' and '-'")
        return cls(current, before)


def read_labels(model_dir: Path) -> Labels:
    """Read ``labels.json`` of a folder of versions; nothing is labelled where there is none.

    Raises:
        BadInputError: it cannot be read.
    """
    path = model_dir / LABELS_NAME
    try:
        return Labels.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Labels()
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{path} is not what `autotag promote` writes: {error!r}. Delete it to start without labels"
        ) from error


def versions_in(model_dir: Path) -> list[int]:
    """Return the numbers of the versions in a folder, in order.

    Raises:
        BadInputError: there is no such folder.
    """
    if not model_dir.is_dir():
        raise BadInputError(f"no model at {model_dir}: no such folder. Train and push one with `autotag run`")
    return sorted(
        int(path.name) for path in model_dir.iterdir() if is_number(path.name) and (path / SAVED_MODEL_NAME).is_file()
    )


def server_config(labels: Labels, base_path: str, loaded: Collection[int] | None = None) -> Any:
    """Return the ModelServerConfig for these labels.

    Args:
        base_path: the folder of versions as the server sees it.
        loaded: versions to be loaded; None takes those of the labels.
    """
    config = messages.ModelServerConfig()
    model = config.model_config_list.config.add(name=MODEL_NAME, base_path=base_path, model_platform="tensorflow")
    versions = sorted(labels.loaded() if loaded is None else loaded)
    if versions:
        model.model_version_policy.specific.versions.extend(versions)
    else:
        model.model_version_policy.latest.num_versions = FOLLOWED_VERSIONS
    for label, version in labels.current.items():
        model.version_labels[label] = version
    return config


def config_text(config: Any) -> str:
    """Return a ModelServerConfig as text, as ``--model_config_file`` reads it."""
    return str(text_format.MessageToString(config))


def read_config(path: Path) -> Any:
    """Read a model configuration file with one model, ``autotag``.

    Raises:
        BadInputError: it cannot be read, or is something else.
    """
    config = messages.ModelServerConfig()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} cannot be read: {error}") from error
    except text_format.ParseError as error:
        raise BadInputError(f"{path} is no model configuration of TensorFlow Serving: {error}") from error
    models = config.model_config_list.config
    if [model.name for model in models] != [MODEL_NAME]:
        raise BadInputError(f"{path} must have one model, {MODEL_NAME}; it has {[model.name for model in models]}")
    return config


@dataclass(frozen=True)
class VersionState:
    """What a server says of one version: its state (a key of STATE_NAMES), and why it failed."""

    state: int
    error_code: int = 0
    error: str = ""

    def __str__(self) -> str:
        return STATE_NAMES.get(self.state, str(self.state)) + (f": {self.error}" if self.error else "")


class BusyError(AutotagError):
    """A server that is there does not get round to answering."""


class ModelServer:
    """TensorFlow Serving's ModelService at one address.

    While the server says that its threads are all busy, a call is tried again for as long as one may take.

    Args:
        address: host and port of gRPC, such as localhost:8500.
        timeout: seconds that one call may take.
        tls: encrypt, trusting the system's authorities, or
        root_certificates: the authorities in this file (PEM).

    Raises:
        BadInputError: the address or the file of authorities cannot be used.
    """

    def __init__(
        self, address: str, timeout: float = 30.0, *, tls: bool = False, root_certificates: Path | None = None
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._channel = open_channel(grpc, Target(address, tls=tls, root_certificates=root_certificates))
        self._status = self._call(
            messages.GET_MODEL_STATUS, messages.GetModelStatusRequest, messages.GetModelStatusResponse
        )
        self._reload = self._call(
            messages.HANDLE_RELOAD_CONFIG, messages.ReloadConfigRequest, messages.ReloadConfigResponse
        )

    def _call(self, path: str, request: Any, response: Any) -> Any:
        return self._channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> dict[int, VersionState]:
        """Return the state of each version that the server knows of; {} where it does not know the model.

        Raises:
            BusyError: it is there and too busy to answer.
            AutotagError: it does not answer.
        """
        request = messages.GetModelStatusRequest()
        request.model_spec.name = MODEL_NAME
        try:
            answer = self._ask(self._status, request)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise self._said(error) from error
        return {
            entry.version: VersionState(entry.state, entry.status.error_code, entry.status.error_message)
            for entry in answer.model_version_status
        }

    def reload(self, config: Any) -> None:
        """Give the server a configuration.

        Raises:
            BusyError: it is there and too busy to answer.
            AutotagError: it refuses, or does not answer.
        """
        try:
            answer = self._ask(self._reload, messages.ReloadConfigRequest(config=config))
        except grpc.RpcError as error:
            raise self._said(error) from error
        if answer.status.error_code:
            raise AutotagError(f"{self.address} refused the configuration: {answer.status.error_message}")

    def _ask(self, method: Any, request: Any) -> Any:
        """Call a method, again and again while all threads of the server are busy."""
        end = time.monotonic() + self._timeout
        while True:
            left = end - time.monotonic()
            try:
                return method(request, timeout=max(left, POLL_SECONDS))
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED or left < POLL_SECONDS:
                    raise
            time.sleep(POLL_SECONDS)

    def _said(self, error: Any) -> AutotagError:
        late = error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED or (late and self._takes_connections()):
            return BusyError(
                f"TensorFlow Serving at {self.address} is there, and too busy to answer within {self._timeout:.0f} s "
                f"({error.details()}): try again when fewer clients ask"
            )
        if late or error.code() == grpc.StatusCode.UNAVAILABLE:
            return AutotagError(
                f"no TensorFlow Serving answers at {self.address} ({error.details()}): is it running, and is this its "
                "gRPC port (not REST)?"
            )
        return AutotagError(f"{self.address} refused: {error.code().name}, {error.details()}")

    def _takes_connections(self) -> bool:
        """Whether somebody at the address speaks gRPC, busy or not."""
        try:
            grpc.channel_ready_future(self._channel).result(timeout=CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            return False
        return True

    def wait_until_available(self, versions: Collection[int], seconds: float) -> None:
        """Wait until the versions are loaded.

        Raises:
            AutotagError: one could not be loaded, or not in time.
        """
        begin = time.monotonic()
        states: dict[int, VersionState] = {}
        while True:
            with contextlib.suppress(BusyError):  # which loading a version makes it
                states = self.status()
            missing = {number: states.get(number, VersionState(0)) for number in versions}
            missing = {number: state for number, state in missing.items() if state.state != AVAILABLE}
            if not missing:
                return
            passed = time.monotonic() - begin
            failed = any(state.error_code for state in missing.values()) and passed > STALE_SECONDS
            if failed or passed > seconds:
                seen = "; ".join(f"version {number} is {state}" for number, state in sorted(missing.items()))
                raise AutotagError(
                    f"{self.address} did not load what was asked for ({passed:.0f} s): {seen}. No label was moved; "
                    "the server's log says more"
                )
            time.sleep(POLL_SECONDS)


def move(
    servers: Sequence[ModelServer],
    before: Labels,
    after: Labels,
    base_path: str,
    present: Collection[int] | None,
    seconds: float,
) -> Iterator[str]:
    """Move the labels in running servers, yielding what has been done; at "labelled" all have the new labels.

    Args:
        servers: replicas of one another.
        before: the labels as they are; what a server gets back if the move fails.
        after: the labels as they shall be.
        base_path: the folder of versions as the servers see it.
        present: versions that are there, None where that is not known.
        seconds: how long loading may take.

    Raises:
        AutotagError: a server does not answer, cannot load a version, or refuses; the others have been set back.
    """
    states = [server.status() for server in servers]
    changed: list[tuple[ModelServer, Any]] = []
    both = []
    try:
        for server, known in zip(servers, states, strict=True):
            serving = {number for number, state in known.items() if state.state == AVAILABLE}
            old = Labels({label: number for label, number in before.current.items() if number in serving}, {})
            back = server_config(old, base_path, before.loaded(present) if old.current else ())
            wanted = serving | set(after.current.values())
            both.append(wanted)
            changed.append((server, back))
            server.reload(server_config(old, base_path, wanted))
        yield "loading"
        for server in servers:
            server.wait_until_available(set(after.current.values()), seconds)
        for server, wanted in zip(servers, both, strict=True):
            server.reload(server_config(after, base_path, wanted))
    except BaseException:
        for server, back in changed:
            with contextlib.suppress(AutotagError):
                server.reload(back)
        raise
    yield "labelled"
    for server in servers:
        server.reload(server_config(after, base_path, after.loaded(present)))
    yield "unloaded"


def change_labels(
    model_dir: Path,
    servers: Sequence[ModelServer],
    after: Labels,
    *,
    before: Labels,
    base_path: str,
    present: Collection[int] | None,
    config_file: Path | None,
    seconds: float,
) -> Iterator[str]:
    """Move the labels in the servers, then write ``labels.json`` and the servers' configuration file.

    The caller holds ``labels_lock``. Arguments, steps and errors as in ``move``; "written" comes after "labelled".

    Raises:
        BadInputError: a file cannot be written; the servers have the new labels.
    """
    steps = move(servers, before, after, base_path, present, seconds)
    for step in steps:
        yield step
        if step == "labelled":
            break
    write_whole(model_dir / LABELS_NAME, after.to_json())
    if config_file is not None:
        write_whole(config_file, config_text(server_config(after, base_path, after.loaded(present))))
    yield "written"
    yield from steps


def labels_lock(model_dir: Path) -> contextlib.AbstractContextManager[None]:
    """Let one promotion at a time work on a folder of versions."""
    path = model_dir / LOCK_NAME
    return hold(path, AutotagError(f"another promotion or rollback works on {model_dir}: wait until it has ended"))


def write_whole(path: Path, text: str) -> None:
    """Write a text file that is there whole or not at all.

    Raises:
        BadInputError: it cannot be written.
    """
    try:
        whole_files.write_whole(path, text)
    except OSError as error:
        raise BadInputError(f"{path} cannot be written: {error.strerror}") from error
