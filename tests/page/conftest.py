"""A browser, and the page's server with a folder of tones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from boards import Boards
from page_server import listening_models, local_access, running_page
from studio import GROUPS, NASTY, UPLOAD_BYTES, Ears, Studio, open_tab, write_parts

from serving.page.app import Settings
from serving.page.corrections import Corrections
from serving.page.folder import Folder
from serving.page.uploads import Limits

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

CHROMIUM = os.environ.get("AUTOTAG_CHROMIUM") or shutil.which("chromium")


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    base = tmp_path_factory.mktemp("studio")
    music = base / "music"
    write_parts(music / "low then high.wav", (220, 10), (1_200, 10))
    write_parts(music / "album" / "low then high.flac", (220, 10), (1_200, 10))
    write_parts(music / "album" / NASTY, (80, 6))
    write_parts(music / "album" / (3 * "a long name that wraps or is cut " + ".wav"), (600, 4))
    write_parts(music / "long.flac", (220, 600), (600, 600))
    (music / "broken.mp3").write_bytes(b"ID3 but not music" * 50)
    for number in range(120):
        write_parts(music / "many" / f"song {number:03}.wav", (200 + 10 * number, 1))
    ears = Ears("ears")
    strict = Ears("strict", ("guitar", "flute", "vocal"), threshold=0.7, seconds=4)
    models = listening_models(base / "models", ears, strict)
    corrections = base / "corrections.csv"
    settings = Settings(
        models,
        local_access(),
        Folder(music),
        group=lambda tag: GROUPS.get(tag, "other"),
        corrections=Corrections(corrections),
        limits=Limits(file_bytes=UPLOAD_BYTES),
        leaderboards=Boards(),
    )
    with running_page(settings) as page:
        yield Studio(page, music, ears, corrections)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        reason = "there is no Chromium: install Debian's chromium, or set AUTOTAG_CHROMIUM to one"
        if os.environ.get("AUTOTAG_TEST_PAGE"):
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    microphone = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    flags = [*as_root, *microphone, "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def tab(browser: Browser, studio: Studio) -> Iterator[Tab]:
    """A tab at a desk; at the end the browser must have complained of nothing."""
    complaints: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=studio.page.base)
    yield open_tab(context, complaints)
    context.close()
    assert complaints == []
