"""Every view at a desk's and a phone's width, light and dark: nothing hides, axe-core has nothing serious to say.

Pictures of them go to PAGE_SCREENSHOTS (build/page-screenshots).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from indexed import answer_from_an_index
from studio import NASTY, SONG, Studio, open_tab

pytest.importorskip("playwright")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
PICTURES = Path(os.environ.get("PAGE_SCREENSHOTS", "build/page-screenshots"))
WIDTHS = {"desktop": (1440, 900), "phone": (360, 740)}
VIEWS = {
    "welcome": ("listen", "What is in this song?"),
    "listen": (f"listen?song={SONG}", "heard in"),
    "long-name": (f"listen?song={quote(f'file:album/{NASTY}', safe='')}", "heard in"),
    "broken": (f"listen?song={quote('file:broken.mp3', safe='')}", "Try again"),
    "models": ("compare", "models/strict"),
    "compare": (f"compare?song={SONG}&models=MODELS", "Shared tags"),
    "leaderboard": ("leaderboard", "Wrongly tagged"),
    "no-index": ("find", "There is no index yet"),
    "find": ("find?q=guitar", "60 songs for"),
    "similar": (f"find?like={SONG}", "Sounds like low"),
    "duplicates": ("find?show=duplicates", "more than once"),
    "map": ("map", "song 000.wav"),
}
"""Each view's address, and what is to be read there once it is whole."""


def serious(tab: Tab) -> list[str]:
    """What axe-core finds that is serious or critical, a line each."""
    found: dict[str, Any] = tab.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


def test_axe_core_finds_what_is_wrong(tab: Tab) -> None:
    tab.goto("/")
    expect(tab.get_by_role("list", name="Songs")).to_be_visible()
    tab.evaluate("document.querySelector('main').append(document.createElement('select'))")
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    assert [line.partition(":")[0] for line in serious(tab)] == ["select-name"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", list(WIDTHS))
@pytest.mark.parametrize("view", list(VIEWS))
def test_view_is_well_set(browser: Browser, studio: Studio, view: str, width: str, theme: Any) -> None:
    address, whole = VIEWS[view]
    complaints: list[str] = []
    context = browser.new_context(
        viewport={"width": WIDTHS[width][0], "height": WIDTHS[width][1]},
        color_scheme=theme,
        reduced_motion="reduce",
        base_url=studio.page.base,
        has_touch=width == "phone",
    )
    try:
        tab = open_tab(context, complaints)
        if view != "no-index":
            answer_from_an_index(tab)
        tab.goto(f"/#/{address.replace('MODELS', studio.models())}")
        expect(tab.locator("main").get_by_text(re.compile(whole)).first).to_be_visible()
        expect(tab.locator("[aria-busy=true]")).to_have_count(0)
        tab.evaluate("document.fonts.ready.then(() => new Promise(requestAnimationFrame))")
        assert tab.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width][0]
        tall = tab.evaluate("document.documentElement.scrollHeight")
        tab.set_viewport_size({"width": WIDTHS[width][0], "height": max(tall, WIDTHS[width][1])})
        PICTURES.mkdir(parents=True, exist_ok=True)
        tab.screenshot(path=PICTURES / f"{view}-{width}-{theme}.png", full_page=True)
        tab.evaluate(AXE.read_text(encoding="utf-8"))
        assert serious(tab) == []
    finally:
        context.close()
    assert complaints == []
