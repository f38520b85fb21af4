"""The page's server in a thread, with a model that needs no TensorFlow: it hears how loud a window is."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile as sf

from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from serving.model_info import DataInfo, ModelInfo, Origin, SplitScores
from serving.page.app import Settings, create_app
from serving.page.models import Models
from serving.page.safety import Access
from serving.page.server import listen, make_server
from serving.tagging.sources import Answers

TAGS = ("loud", "peak", "half")
CLIP = ClipFormat(8_000, 16_000)
THRESHOLDS = (0.1, 0.9, 0.4)


class Listener:
    """Answers with a window's loudness, its peak and 0.5; while ``held`` is not set it does not answer.

    Attributes:
        asked: windows so far.
    """

    calls_at_once = 1
    clip = CLIP
    tags = TAGS

    def __init__(self, name: str = "listener", seconds: float = 0.0) -> None:
        self.name, self.seconds = name, seconds
        self.held = threading.Event()
        self.held.set()
        self.asked = self.most_together = self._together = 0
        self._lock = threading.Lock()

    def identity(self) -> str:
        return f"{self.name} 1"

    def answer(self, windows: Any) -> Answers:
        with self._lock:
            self._together += 1
            self.most_together = max(self.most_together, self._together)
            self.asked += len(windows)
        try:
            assert self.held.wait(60)
            time.sleep(self.seconds * len(windows))
        finally:
            with self._lock:
                self._together -= 1
        columns = [np.sqrt((windows**2).mean(axis=1)), np.abs(windows).max(axis=1), np.full(len(windows), 0.5)]
        rows = np.stack(columns, 1).astype(np.float32)
        return Answers(self.tags, np.float32(THRESHOLDS), rows, self.identity())


def write_version(folder: Path, tags: tuple[str, ...] = TAGS) -> Path:
    """A version's folder with a card and no weights: enough for the list of models."""
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").touch()
    info = ModelInfo(
        tags=tags,
        thresholds=(0.5,) * len(tags),
        heads=Heads.of_tags(len(tags)),
        clip=CLIP,
        members=(),
        combiner=None,
        data=DataInfo("tones", "CC0", {"rule": "track"}, {}, {}),
        scores={"test": SplitScores(0.75, None, 0.5, len(tags))},
        origin=Origin("a paper", "somewhere", "MIT", notes="made up"),
    )
    (folder / "model.json").write_text(info.to_json(), encoding="utf-8")
    return folder


def listening_models(folder: Path, *listeners: Listener) -> Models:
    """A list of models, each of which is one of the listeners."""
    known = {listener.name: listener for listener in listeners}
    for name in known:
        if not (folder / name).exists():
            write_version(folder / name)

    def load(path: Path, name: str) -> Listener:
        return known[path.name]

    return Models([str(folder / name) for name in known], trained=(), load=load)


@dataclass
class Page:
    """A server that runs.

    Attributes:
        base: its address without a slash at the end.
        port: where it listens.
        client: that asks as the page's own scripts do.
    """

    base: str
    port: int
    client: httpx.Client

    def upload(self, data: Any, name: str = "a.wav") -> httpx.Response:
        headers = {"content-type": "application/octet-stream"}
        return self.client.post("/api/uploads", params={"name": name}, content=data, headers=headers)

    def tag(self, song: str, *models: str, **fields: Any) -> list[dict[str, Any]]:
        answer = self.client.post("/api/tag", json={"song": song, "models": list(models), **fields})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]


@contextlib.contextmanager
def running_page(settings: Settings) -> Iterator[Page]:
    """Start the server; at the end it is stopped as by Ctrl-C."""
    listener = listen("127.0.0.1", 0)
    port = int(listener.getsockname()[1])
    server = make_server(create_app(settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    base = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=base, headers={"origin": base}, timeout=60) as client:
            yield Page(base, port, client)
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()


def local_access() -> Access:
    return Access.of("localhost", None)


def write_song(path: Path, seconds: float = 5, level: float = 0.5, rate: int = 8_000, kind: str | None = None) -> Path:
    """A tone that becomes no louder than ``level``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * rate)) / rate
    sf.write(path, (level * np.sin(2 * np.pi * 220 * times)).astype(np.float32), rate, format=kind)
    return path
