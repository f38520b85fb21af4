from __future__ import annotations

import csv
import io
import re
import time
import wave
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from studio import NASTY, UPLOAD_BYTES, Studio, until, write_parts

pytest.importorskip("playwright")
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Page as Tab

TIME_NOW = "[...document.querySelectorAll('song-waveform')].map(w => Number(w.getAttribute('aria-valuenow')))[0]"

NOW_OF_GUITAR = (
    "Number([...document.querySelectorAll('.groups .tag')].find(t => t.textContent.includes('guitar'))"
    ".querySelector('tag-bar').style.getPropertyValue('--now'))"
)
DROP = """(bytes) => {
  const transfer = new DataTransfer();
  transfer.items.add(new File([new Uint8Array(bytes)], "dropped.wav", { type: "audio/wav" }));
  const event = (type) => new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer });
  document.body.dispatchEvent(event("dragenter"));
  const shown = !document.getElementById("drop").hidden;
  document.body.dispatchEvent(event("drop"));
  return shown && document.getElementById("drop").hidden;
}"""


ASKED_LATER = """
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  const allowed = new Promise((allow) => { window.allow = allow; });
  navigator.mediaDevices.getUserMedia = async (what) => {
    await allowed;
    window.tracks = (await ask(what)).getTracks();
    return { getTracks: () => window.tracks };
  };
"""
"""The browser asks whether the microphone may be used, and somebody answers when ``allow`` is called."""
KEPT = """
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (what) => {
    const stream = await ask(what);
    window.tracks = stream.getTracks();
    return stream;
  };
"""
LET_GO = "window.tracks?.every((track) => track.readyState === 'ended')"


def open_song(tab: Tab, song: str) -> None:
    tab.goto(f"/#/listen?song={quote('file:' + song, safe='')}")
    expect(tab.locator("#player")).to_be_visible()


def heard_tags(tab: Tab) -> list[str]:
    expect(tab.locator(".done")).to_be_visible()
    return tab.locator(".groups .tag-name").all_inner_texts()


def wait_for_length(tab: Tab) -> None:
    until(tab, "!document.querySelector('#player input').disabled")


def test_first_paint_comes_within_a_second(tab: Tab) -> None:
    tab.goto("/")
    expect(tab.get_by_role("heading", name="What is in this song?")).to_be_visible()
    paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    assert paint < 1_000


def test_file_that_is_chosen_is_sent_heard_and_shown_by_group(tab: Tab, tmp_path: Path) -> None:
    tab.goto("/")
    tab.set_input_files("#file", write_parts(tmp_path / "mine.wav", (220, 4)))
    expect(tab.get_by_role("heading", name="mine.wav")).to_be_visible()
    assert heard_tags(tab) == ["guitar"]
    expect(tab.get_by_role("region", name="Instruments")).to_contain_text(
        re.compile(r"guitar\s*, probability 100 %, threshold 40 %")
    )
    expect(tab.get_by_role("region", name="Voice")).to_have_count(0)


def test_file_that_is_dropped_anywhere_is_heard(tab: Tab, tmp_path: Path) -> None:
    data = write_parts(tmp_path / "dropped.wav", (600, 3)).read_bytes()
    tab.goto("/#/leaderboard")
    expect(tab.get_by_role("heading", name="Leaderboard")).to_be_visible()
    assert tab.evaluate(DROP, list(data))
    expect(tab.get_by_role("heading", name="dropped.wav")).to_be_visible()
    assert heard_tags(tab) == ["vocal"]


def test_song_of_the_folder_is_searched_and_picked(tab: Tab) -> None:
    tab.goto("/")
    songs = tab.get_by_role("list", name="Songs")
    expect(songs.get_by_role("listitem")).to_have_count(50)
    tab.get_by_role("button", name="Next →").click()
    expect(tab.get_by_text("2 of 3")).to_be_visible()
    tab.get_by_label("Search the folder").fill("MANY 077")
    expect(songs.get_by_role("listitem")).to_have_count(1)
    songs.get_by_role("link").click()
    expect(tab.get_by_role("heading", name="song 077.wav")).to_be_visible()
    expect(songs.get_by_role("link")).to_have_attribute("aria-current", "true")
    tab.get_by_label("Search the folder").fill("no such song")
    expect(tab.get_by_text("No file has ‘no such song’ in its name.")).to_be_visible()


def test_folders_open_and_lead_back(tab: Tab) -> None:
    tab.goto("/")
    tab.get_by_role("list", name="Folders").get_by_role("button", name="album").click()
    expect(tab.get_by_role("list", name="Songs").get_by_role("listitem")).to_have_count(3)
    tab.get_by_role("button", name="← Back").click()
    expect(tab.get_by_role("list", name="Folders").get_by_role("button")).to_have_text(["album", "many"])


def test_pasted_path_opens_and_one_outside_is_refused_in_words(tab: Tab, studio: Studio, tmp_path: Path) -> None:
    tab.goto("/")
    field = tab.get_by_label("Path of a file in the folder")
    field.fill(str(write_parts(tmp_path / "outside.wav", (220, 1))))
    field.press("Enter")
    expect(tab.get_by_role("alert")).to_contain_text(re.compile("folder"))
    field.fill(str(studio.music / "album" / NASTY))
    field.press("Enter")
    expect(tab.get_by_role("heading", name=NASTY)).to_be_visible()
    assert heard_tags(tab) == ["drums"]


def test_microphone_is_recorded_sent_and_heard(tab: Tab, studio: Studio) -> None:
    tab.goto("/")
    tab.get_by_role("button", name="Record").click()
    expect(tab.locator(".recording")).to_contain_text("0:02")
    tab.get_by_role("button", name="Stop and listen").click()
    expect(tab.locator(".done")).to_contain_text("heard in")
    song = tab.evaluate("new URLSearchParams(location.hash.split('?')[1]).get('song')")
    with wave.open(io.BytesIO(studio.page.client.get("/api/audio", params={"song": song}).content)) as recorded:
        assert (recorded.getnchannels(), recorded.getsampwidth()) == (1, 2)
        assert 2 <= recorded.getnframes() / recorded.getframerate() < 10


def test_recording_that_is_discarded_while_the_browser_asks_never_begins(tab: Tab) -> None:
    tab.add_init_script(ASKED_LATER)
    tab.goto("/")
    tab.get_by_role("button", name="Record").click()
    tab.get_by_role("button", name="Discard").click()
    tab.evaluate("allow()")
    until(tab, LET_GO)
    expect(tab.locator(".recording")).to_have_count(0)
    expect(tab.get_by_role("alert")).to_have_count(0)


def test_file_that_is_dropped_ends_a_recording(tab: Tab, tmp_path: Path) -> None:
    tab.add_init_script(KEPT)
    tab.goto("/")
    tab.get_by_role("button", name="Record").click()
    expect(tab.locator(".recording")).to_contain_text("0:01")
    assert tab.evaluate(DROP, list(write_parts(tmp_path / "dropped.wav", (220, 1)).read_bytes()))
    expect(tab.get_by_role("heading", name="dropped.wav")).to_be_visible()
    assert tab.evaluate(LET_GO)


def test_playback_moves_the_playhead_and_what_is_heard_now(tab: Tab) -> None:
    open_song(tab, "low then high.wav")
    assert set(heard_tags(tab)) == {"guitar", "flute"}
    tab.get_by_role("button", name="Play", exact=True).click()
    until(tab, f"{TIME_NOW} >= 1")
    assert tab.evaluate("Number(document.querySelector('.song-time').style.getPropertyValue('--at'))") >= 0.05
    until(tab, f"{NOW_OF_GUITAR} > 0.9")
    tab.get_by_role("button", name="Pause", exact=True).click()
    tab.keyboard.press("7")
    until(tab, f"{TIME_NOW} === 14")
    until(tab, f"{NOW_OF_GUITAR} < 0.1")


@pytest.mark.parametrize("picture", ["song-waveform", "tag-gram canvas"])
def test_click_into_a_picture_seeks(tab: Tab, picture: str) -> None:
    open_song(tab, "low then high.wav")
    heard_tags(tab)
    wait_for_length(tab)
    box = tab.locator(picture).bounding_box()
    assert box is not None
    tab.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + box["height"] / 2)
    until(tab, f"{TIME_NOW} === 15")


def test_keys_play_seek_and_help(tab: Tab) -> None:
    open_song(tab, "low then high.wav")
    heard_tags(tab)
    wait_for_length(tab)
    for key, second in (("5", 10), ("ArrowRight", 15), ("ArrowLeft", 10), ("ArrowLeft", 5), ("9", 18), ("Home", 0)):
        tab.keyboard.press(key)
        until(tab, f"{TIME_NOW} === {second}")
    tab.keyboard.press("Space")
    expect(tab.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    tab.keyboard.press("Space")
    expect(tab.get_by_role("button", name="Play", exact=True)).to_be_visible()
    tab.keyboard.press("?")
    expect(tab.get_by_role("dialog", name="Keyboard")).to_be_visible()
    tab.keyboard.press("Escape")
    expect(tab.get_by_role("dialog", name="Keyboard")).to_be_hidden()


def test_keys_are_left_to_a_field_that_is_typed_in(tab: Tab) -> None:
    open_song(tab, "low then high.wav")
    heard_tags(tab)
    wait_for_length(tab)
    tab.keyboard.press("/")
    expect(tab.get_by_label("Search the folder")).to_be_focused()
    tab.keyboard.type("5 ?")
    assert tab.get_by_label("Search the folder").input_value() == "5 ?"
    assert tab.evaluate(TIME_NOW) == 0


def test_taggram_is_a_table_too(tab: Tab) -> None:
    open_song(tab, "low then high.wav")
    heard_tags(tab)
    expect(tab.locator("tag-gram canvas")).to_have_attribute(
        "aria-label", re.compile("Taggram by .*ears: 5 tags over time")
    )
    tab.get_by_text("Taggram as a table").click()
    row = tab.locator(".as-table tr", has_text="guitar").locator("td")
    expect(row).to_have_text(["100"] * 5 + ["0"] * 5)


def test_pointer_on_the_taggram_names_tag_time_and_probability(tab: Tab) -> None:
    open_song(tab, "low then high.wav")
    heard_tags(tab)
    tab.locator("tag-gram canvas").hover(position={"x": 30, "y": 8})
    expect(tab.locator("tag-gram .tip")).to_have_text(re.compile(r"(guitar|flute) at 0:0\d: (100|0) %"))


def test_long_song_streams_in_and_can_be_cancelled(tab: Tab, studio: Studio) -> None:
    tab.goto("/")
    expect(tab.get_by_role("heading", name="What is in this song?")).to_be_visible()
    studio.ears.seconds = 0.05
    try:
        open_song(tab, "long.flac")
        expect(tab.get_by_text(re.compile(r"Heard \d+:\d\d of 20:00"))).to_be_visible()
        expect(tab.locator(".groups .tag-name").first).to_have_text("guitar")
        tab.get_by_role("button", name="Cancel").click()
        expect(tab.get_by_text(re.compile(r"Cancelled after \d+:\d\d\."))).to_be_visible()
        time.sleep(1)
        asked = studio.ears.asked
        time.sleep(1)
        assert studio.ears.asked == asked < 600
    finally:
        studio.ears.seconds = 0
    tab.get_by_role("button", name="Try again").click()
    expect(tab.locator(".done")).to_contain_text("20:00 heard in", timeout=60_000)


def test_model_and_step_are_chosen_and_remembered(tab: Tab) -> None:
    open_song(tab, "low then high.wav")
    heard_tags(tab)
    assert tab.get_by_label("every").locator("option").all_inner_texts() == ["2 s"]
    tab.get_by_label("Heard by").select_option(label="models/strict")
    expect(tab.locator(".done")).to_contain_text("5 windows of 4 s")
    tab.get_by_label("every").select_option(label="2 s")
    expect(tab.locator(".done")).to_contain_text("9 windows of 4 s")
    tab.reload()
    expect(tab.locator(".done")).to_contain_text("9 windows of 4 s")


def test_broken_file_is_refused_in_words_where_it_is_shown(tab: Tab) -> None:
    open_song(tab, "broken.mp3")
    alerts = tab.locator(".stage [role=alert]")
    expect(alerts.first).to_contain_text(re.compile("broken.mp3|not recognised|decod", re.I))
    expect(tab.get_by_role("button", name="Try again")).to_be_visible()
    expect(tab.get_by_role("region", name="Tags")).to_have_count(0)


def test_upload_that_is_too_large_is_refused_in_words(tab: Tab) -> None:
    tab.goto("/")
    large = {"name": "huge.wav", "mimeType": "audio/wav", "buffer": b"\0" * (UPLOAD_BYTES + 1)}
    tab.set_input_files("#file", large)
    expect(tab.locator(".incoming [role=alert]")).to_be_visible()
    assert "4" in tab.locator(".incoming [role=alert]").inner_text()


def test_name_of_a_file_is_shown_and_never_run(tab: Tab) -> None:
    open_song(tab, f"album/{NASTY}")
    heard_tags(tab)
    assert tab.locator("main b").count() == 0
    expect(tab).to_have_title(f"{NASTY} – autotag")


def test_marks_are_kept_in_the_file_shown_and_taken_back(tab: Tab, studio: Studio) -> None:
    def row() -> dict[str, Any]:
        with studio.corrections.open(encoding="utf-8", newline="") as lines:
            return {line["path"]: line for line in csv.DictReader(lines)}["album/low then high.flac"]

    open_song(tab, "album/low then high.flac")
    heard_tags(tab)
    tab.get_by_role("button", name="guitar is right").click()
    expect(tab.get_by_role("button", name="guitar is right")).to_have_attribute("aria-pressed", "true")
    tab.get_by_role("button", name="flute is wrong").click()
    tab.get_by_label("Add a tag that is missing").fill("vocal")
    tab.get_by_role("button", name="Add", exact=True).click()
    expect(tab.get_by_role("list", name="Added tags")).to_contain_text("vocal")
    expect(tab.locator(".corrections")).to_contain_text(f"3 marks on this song, kept in {studio.corrections}")
    assert set(row()["tags"].split("|")) == {"guitar", "vocal"}
    tab.reload()
    expect(tab.get_by_role("button", name="flute is wrong")).to_have_attribute("aria-pressed", "true")
    tab.get_by_role("button", name="Take vocal away").click()
    expect(tab.get_by_role("list", name="Added tags")).to_have_count(0)
    assert set(row()["tags"].split("|")) == {"guitar"}


def test_song_that_the_browser_cannot_play_is_played_as_decoded(tab: Tab, studio: Studio) -> None:
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url) if "/api/audio" in request.url else None)
    not_audio = {"body": b"no audio", "content_type": "audio/wav"}
    tab.route(re.compile(r"/api/audio\?song=[^&]*$"), lambda route: route.fulfill(**not_audio))
    open_song(tab, "many/song 001.wav")
    wait_for_length(tab)
    assert asked[-1].endswith("&decoded=1")
    tab.get_by_role("button", name="Play", exact=True).click()
    until(tab, "document.querySelector('#player input').value > 0.2")
