"""A folder of tones, and models that hear frequencies: quick, and their answers follow from the sound."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import soundfile as sf
from page_server import Listener, Page

from models.heads import Heads
from preprocessing.clip_format import ClipFormat
from serving.tagging.sources import Answers

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext
    from playwright.sync_api import Page as Tab

RATE = 8_000
BANDS = {"drums": (40, 150), "guitar": (150, 400), "vocal": (400, 900), "flute": (900, 2_000), "quiet": (2_000, 4_000)}
GROUPS = {"drums": "instrument", "guitar": "instrument", "flute": "instrument", "vocal": "voice", "quiet": "mood"}
UPLOAD_BYTES = 4_000_000


class Ears(Listener):
    """Hears where the energy lies: the probability of a tag is the share of its band."""

    def __init__(
        self, name: str, tags: tuple[str, ...] = tuple(BANDS), threshold: float = 0.4, seconds: float = 2
    ) -> None:
        super().__init__(name)
        self.clip = ClipFormat(RATE, round(RATE * seconds))
        self.tags = tags
        self.threshold = threshold

    def answer(self, windows: Any) -> Answers:
        super().answer(windows)
        power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
        frequencies = np.fft.rfftfreq(windows.shape[1], 1 / RATE)
        shares = [
            power[:, (low <= frequencies) & (frequencies < high)].sum(1) for low, high in map(BANDS.get, self.tags)
        ]
        rows = np.stack(shares, 1) / np.maximum(power.sum(1, keepdims=True), 1e-9)
        thresholds = np.full(len(self.tags), self.threshold, np.float32)
        return Answers(self.tags, thresholds, rows.astype(np.float32), self.identity(), Heads.of_tags(len(self.tags)))


REFUSED = re.compile(r"Failed to load resource: the server responded with a status of (400|403|404|413|422|503)")
SONG = quote("file:low then high.wav", safe="")
"""One of its songs, as it stands in an address."""
NASTY = "deep <b>bold <img src=x onerror=alert(1)> & 50%25 loud.wav"


def write_parts(path: Path, *parts: tuple[float, float]) -> Path:
    """A file of tones one after the other, (frequency, seconds) each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tones = [0.5 * np.sin(2 * np.pi * hertz * np.arange(round(RATE * seconds)) / RATE) for hertz, seconds in parts]
    sf.write(path, np.concatenate(tones).astype(np.float32), RATE)
    return path


def until(tab: Tab, script: str, seconds: float = 15) -> None:
    """Wait until a script says true. Playwright's own waiting runs ``eval`` in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not (said := tab.evaluate(script)):
        assert time.monotonic() < end, f"{script} is {said}"
        tab.wait_for_timeout(30)


def open_tab(context: BrowserContext, complaints: list[str]) -> Tab:
    """A tab that writes down what the browser complains of: errors in scripts, and what the policy forbids.

    A request that the server refused is no fault of the page.
    """

    def hear(text: str) -> None:
        if not REFUSED.match(text):
            complaints.append(text)

    tab = context.new_page()
    tab.set_default_timeout(15_000)
    tab.on("console", lambda message: hear(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: hear(f"{error.name}: {error.message}"))
    return tab


@dataclass
class Studio:
    """The server with all that the tests ask of it.

    Attributes:
        page: where it listens.
        music: its folder.
        ears: its first model; hold it to see a song being heard.
        corrections: the file of marks.
    """

    page: Page
    music: Path
    ears: Ears
    corrections: Path

    def models(self) -> str:
        """The names of all its models, as they stand in an address."""
        return quote(",".join(model["name"] for model in self.page.client.get("/api/models").json()), safe="")
