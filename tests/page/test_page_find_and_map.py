from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from indexed import answer_from_an_index
from studio import SONG, until

pytest.importorskip("playwright")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page as Tab


def test_search_by_tags_lists_songs_that_play(tab: Tab) -> None:
    asked = answer_from_an_index(tab)
    tab.goto("/#/find")
    tab.get_by_label("Tags to search for").fill("flute, not vocal")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", name="60 songs for ‘flute, not vocal’")).to_be_visible()
    results = tab.locator(".results li")
    expect(results).to_have_count(25)
    expect(results.first).to_contain_text("fits 98 %")
    results.first.get_by_role("button", name="Play song 059.wav").click()
    until(tab, "Number(document.querySelector('#player input').value) > 0.1")
    expect(tab.locator("#player")).to_contain_text("song 059.wav")
    tab.get_by_role("navigation", name="Pages of results").get_by_role("link", name="Next").click()
    expect(results.first).to_contain_text("song 034.wav")
    assert asked[-1] == "/api/search?q=flute%2C%20not%20vocal&count=25&page=2"


def test_results_are_saved_as_a_playlist(tab: Tab, tmp_path: Path) -> None:
    asked = answer_from_an_index(tab)
    tab.goto("/#/find?q=guitar")
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Save as .m3u").click()
    assert download.value.suggested_filename == "guitar.m3u"
    download.value.save_as(tmp_path / "list.m3u")
    lines = (tmp_path / "list.m3u").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["#EXTM3U", "file:many/song 000.wav"]
    assert len(lines) == 26
    assert asked[-1] == "/api/playlist guitar"


def test_what_sounds_like_the_playing_second_is_found(tab: Tab) -> None:
    asked = answer_from_an_index(tab)
    tab.goto(f"/#/listen?song={SONG}")
    expect(tab.locator(".done")).to_be_visible()
    until(tab, "!document.querySelector('#player input').disabled")
    tab.keyboard.press("6")
    tab.get_by_role("button", name="Like this moment").click()
    expect(tab.get_by_role("heading", name="Sounds like low then high.wav at 0:12")).to_be_visible()
    assert asked[-1] == f"/api/similar?song={SONG}&second=12&count=20"
    tab.locator(".results li").first.get_by_role("link", name=re.compile("More like it.*song 001")).click()
    expect(tab.get_by_role("heading", name="Sounds like song 001.wav")).to_be_visible()


def test_duplicates_are_listed_by_recording(tab: Tab) -> None:
    answer_from_an_index(tab)
    tab.goto("/#/find")
    tab.get_by_role("link", name="Duplicates").click()
    expect(tab.get_by_role("heading", name="1 recording more than once")).to_be_visible()
    expect(tab.get_by_role("list", name="song 000.wav").get_by_role("listitem")).to_have_count(2)


def test_query_that_is_not_understood_is_said_in_words(tab: Tab) -> None:
    answer_from_an_index(tab)
    tab.goto("/#/find?q=gitar")
    expect(tab.get_by_role("alert")).to_have_text("the index has no tag ‘gitar’; did you mean ‘guitar’?")


@pytest.mark.parametrize("view", ["find", "map"])
def test_without_an_index_it_is_said_how_to_make_one(tab: Tab, view: str) -> None:
    tab.goto(f"/#/{view}")
    expect(tab.get_by_role("heading", name="There is no index yet")).to_be_visible()
    expect(tab.get_by_text("autotag index FOLDER")).to_be_visible()


def test_point_of_the_map_is_named_and_played(tab: Tab) -> None:
    answer_from_an_index(tab)
    tab.goto("/#/map")
    canvas = tab.get_by_role("img", name=re.compile("^60 songs as points"))
    expect(canvas).to_be_visible()
    tab.wait_for_timeout(100)
    box = canvas.bounding_box()
    assert box is not None
    first = (box["x"] + 26, box["y"] + box["height"] - 26)
    tab.mouse.move(*first)
    expect(tab.locator(".map-field .tip")).to_have_text("song 000.wav (guitar)")
    tab.mouse.click(*first)
    expect(tab.locator("#player")).to_contain_text("song 000.wav")


def test_map_is_coloured_by_a_tag_and_its_list_is_sorted_by_it(tab: Tab) -> None:
    answer_from_an_index(tab)
    tab.goto("/#/map")
    songs = tab.get_by_role("list", name="Songs of the map").get_by_role("listitem")
    expect(songs.first).to_contain_text("song 000.wav")
    tab.get_by_label("Coloured by").select_option("flute")
    expect(songs.first).to_contain_text("song 059.wav 98 %")
    with tab.expect_response("**/api/map?method=tsne&tag=flute"):
        tab.get_by_role("radio", name="t-SNE").check()
    expect(songs.first).to_contain_text("song 059.wav 98 %")
    tab.get_by_label("Search the songs").fill("song 01")
    expect(songs).to_have_count(10)
    songs.first.get_by_role("button", name="Play song 019.wav").press("Enter")
    expect(tab.locator("#player")).to_contain_text("song 019.wav")


def test_map_of_tags_leads_to_their_songs(tab: Tab) -> None:
    answer_from_an_index(tab)
    tab.goto("/#/map")
    tab.get_by_role("radio", name="tags").check()
    tags = tab.get_by_role("list", name="Tags")
    expect(tags.get_by_role("link")).to_have_text(["guitar", "vocal", "flute"])
    guitar, vocal, _ = (link.bounding_box() for link in tags.get_by_role("link").all())
    assert guitar is not None
    assert vocal is not None
    beside = guitar["x"] + guitar["width"] <= vocal["x"]
    assert beside or abs(guitar["y"] - vocal["y"]) >= min(guitar["height"], vocal["height"])
    tags.get_by_role("link", name="flute").click()
    expect(tab.get_by_role("heading", name="60 songs for ‘flute’")).to_be_visible()
