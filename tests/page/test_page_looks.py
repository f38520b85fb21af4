"""Every view at a desk's and a phone's width, light and dark: nothing hides, axe-core has nothing serious to say.

Pictures of them go to PAGE_SCREENSHOTS (build/page-screenshots).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from studio import NASTY, Studio

pytest.importorskip("playwright")
from conftest_tab import open_tab
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

AXE = Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js"
PICTURES = Path(os.environ.get("PAGE_SCREENSHOTS", "build/page-screenshots"))
WIDTHS = {"desktop": (1440, 900), "phone": (360, 740)}
SONG = quote("file:low then high.wav", safe="")
BOTH = quote("{models}", safe="{}")
VIEWS = {
    "welcome": ("#/listen", "heading=What is in this song?"),
    "listen": (f"#/listen?song={SONG}", ".done"),
    "long-name": (f"#/listen?song={quote(f'file:album/{NASTY}', safe='')}", ".done"),
    "broken": (f"#/listen?song={quote('file:broken.mp3', safe='')}", "text=Try again"),
    "compare": (f"#/compare?song={SONG}&models={BOTH}", "text=Shared tags"),
    "models": ("#/compare", ".model >> nth=1"),
    "leaderboard": ("#/leaderboard", "#effect"),
    "find": ("#/find?q=guitar", "h1"),
    "similar": (f"#/find?like={SONG}", "h1"),
    "duplicates": ("#/find?show=duplicates", "h1"),
    "map": ("#/map", "h1"),
}


def serious(tab: Tab) -> list[str]:
    """What axe-core finds that is serious or critical, a line each."""
    found: dict[str, Any] = tab.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{violation['id']}: {node['target']} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
