"""Tags over time: what is shown, in which order, at which times; and that the pictures hold it."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.constants import CLIP_SECONDS
from preprocessing.errors import AutotagError, BadInputError
from serving.tagging.tagged_files import TaggedFile
from serving.tagging.taggram import (
    COLOURS,
    MOST_COLUMNS,
    MOST_TICKS,
    SILENCE_COLOUR,
    choose_tags,
    clock,
    colour,
    column_edges,
    shorten,
    summarise,
    taggram_html,
    taggram_json,
    taggram_png,
    time_ticks,
    write_taggram,
)
from serving.tagging.windowing import stream_windows

TAGS = tuple(f"tag {number}" for number in range(20))


def song(seconds: float = 600.0, hop: float = CLIP_SECONDS, name: str = "song.mp3", tags: tuple[str, ...] = TAGS):
    """A song in which tag k is heard the more, the greater k is, and tag 0 in its last window alone."""
    starts = np.arange(0, max(seconds - CLIP_SECONDS, 0) + 1e-9, hop)
    if seconds > CLIP_SECONDS and starts[-1] + CLIP_SECONDS < seconds:
        starts = np.append(starts, seconds - CLIP_SECONDS)
    rows = np.tile(np.linspace(0.0, 0.8, len(tags), dtype=np.float32), (len(starts), 1))
    rows[-1, 0] = 0.95
    mean = rows.mean(axis=0)
    thresholds = np.full(len(tags), 0.5, np.float32)
    return TaggedFile(Path(name), seconds, tags, thresholds, mean, starts, rows, "model 1", "model")


def test_the_highest_means_and_then_the_highest_peaks_are_shown_ordered_by_mean():
    taggram = summarise(song())
    assert len(taggram.tags) == 12
    assert list(taggram.mean) == sorted(taggram.mean, reverse=True)
    assert set(taggram.tags[:8]) == set(TAGS[12:])
    assert "tag 0" in taggram.tags, "heard for a moment, but clearly"
    assert taggram.tags[-1] == "tag 0"
    assert taggram.top == 1.0
    np.testing.assert_array_equal(taggram.above, taggram.mean >= 0.5)


def test_model_of_few_tags_shows_all():
    taggram = summarise(song(tags=("a", "b")))
    assert taggram.tags == ("b", "a")
    assert [int(i) for i in choose_tags(song(tags=("a",)))] == [0]


@pytest.mark.parametrize(("seconds", "hop", "columns"), [(20, 29.1, 1), (600, 29.1, 21), (10_800, 29.1, 372)])
def test_windows_are_columns_from_the_beginning_to_the_end(seconds, hop, columns):
    taggram = summarise(song(seconds, hop))
    assert taggram.cells.shape == (12, columns)
    assert taggram.edges[0] == 0
    assert taggram.edges[-1] == seconds
    assert (np.diff(taggram.edges) > 0).all()


def test_more_windows_than_a_screen_shows_are_averaged_and_the_subtitle_says_so():
    many = song(7_200, 1.0)
    taggram = summarise(many)
    assert taggram.cells.shape[1] <= MOST_COLUMNS
    group = int(re.search(r"a column is the mean of (\d+)", taggram.subtitle)[1])
    row = many.window_probabilities[:group, many.tags.index(taggram.tags[0])]
    assert taggram.cells[0, 0] == pytest.approx(row.mean())
    assert "every 1 s" in taggram.subtitle
    assert taggram.edges[-1] == 7_200


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(1, 4_000_000), hop=st.integers(20_000, 465_600))
def test_edges_rise_for_the_windows_of_any_song(samples, hop):
    starts = [window.start / 16_000 for window in stream_windows([np.zeros(samples, np.float32)], hop)]
    edges = column_edges(np.array(starts), 0.0, samples / 16_000, 29.1)
    assert len(edges) == len(starts) + 1
    assert (np.diff(edges) > 0).all()


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 2_000_000))
def test_ticks_are_few_round_and_within_the_song(seconds):
    ticks = time_ticks(0.0, seconds)
    assert ticks[0] == 0
    assert len(ticks) <= MOST_TICKS + 1
    assert ticks[-1] <= seconds + 1e-6
    labels = [clock(tick, seconds >= 3600) for tick in ticks]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize(
    ("seconds", "hours", "text"),
    [
        (0, False, "0:00"),
        (61.9, False, "1:01"),
        (3599, False, "59:59"),
        (3600, True, "1:00:00"),
        (7265, True, "2:01:05"),
    ],
)
def test_times_are_minutes_and_seconds(seconds, hours, text):
    assert clock(seconds, hours) == text


def test_long_names_lose_their_middle():
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcde…hijk"


def test_json_has_all_tags_and_windows_in_order():
    tagged = song(100, 20)
    data = json.loads(taggram_json(tagged, "model 7"))
    assert (data["format"], data["version"], data["model"]) == ("autotag taggram", 1, "model 7")
    assert (data["file"], data["seconds"], data["window_seconds"]) == ("song.mp3", 100, 29.1)
    assert data["tags"] == list(TAGS)
    assert data["thresholds"] == [0.5] * 20
    np.testing.assert_allclose(data["mean"], tagged.probabilities, atol=1e-5)
    assert [window["start"] for window in data["windows"]] == [0, 20, 40, 60, 70.9]
    assert [window["end"] for window in data["windows"]] == [29.1, 49.1, 69.1, 89.1, 100]
    np.testing.assert_allclose(
        [window["probabilities"] for window in data["windows"]], tagged.window_probabilities, atol=1e-5
    )


@pytest.mark.parametrize(("seconds", "hop"), [(20, 29.1), (600, 29.1), (10_800, 29.1), (3_000, 0.5)])
def test_png_has_one_size_and_the_cells_colours(seconds, hop):
    picture = matplotlib.image.imread(io.BytesIO(taggram_png(summarise(song(seconds, hop)))))
    height, width = picture.shape[:2]
    assert width == 1_650
    assert 800 < height < 900
    middle = picture[height // 6 : -height // 6, width // 2, :3]
    shades = {tuple(np.round(pixel, 2)) for pixel in middle}
    assert len(shades) >= 12, "a shade for each tag, and the lines between them"


def test_strange_names_are_drawn():
    tagged = song(
        60, name="$a_{b}$ <b>&amp;\ufffd 日本.mp3", tags=("$x$", "<script>alert(1)</script>", "日本", "y" * 300)
    )
    assert taggram_png(summarise(tagged)).startswith(b"\x89PNG")
    page = taggram_html(summarise(tagged), tagged, "<model>")
    assert "<script>alert" not in page
    assert "<model>" not in page


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag


@pytest.mark.parametrize("seconds", [20, 600, 10_800])
def test_page_is_whole_and_needs_no_network(seconds):
    tagged = song(seconds)
    taggram = summarise(tagged)
    text = taggram_html(taggram, tagged, "model 7")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & attrs.keys()]
    assert "default-src 'none'" in text
    rects = [attrs for tag, attrs in page.tags if tag == "rect"]
    assert len(rects) == taggram.cells.size
    assert rects[0]["fill"] == colour(taggram.cells[0, 0] / taggram.top)
    assert text.count("<tr") == 1 + len(TAGS), "a row for each tag"
    assert ("hours:minutes:seconds" in text) == (seconds >= 3600)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="there is no chromium on PATH")
def test_page_is_shown_by_a_browser_without_complaint(tmp_path):
    write_taggram(tmp_path / "a.html", song(), "model 7")
    call = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"]
    shown = subprocess.run([*call, f"file://{tmp_path}/a.html"], capture_output=True, text=True, timeout=60)
    assert "tag 19" in shown.stdout
    assert "CONSOLE" not in shown.stderr, shown.stderr


def test_colours_are_those_of_the_scale():
    assert colour(0) == colour(-1) == COLOURS[0]
    assert colour(1) == colour(2) == COLOURS[-1]
    assert colour(0.4) == COLOURS[2]


@pytest.mark.parametrize("suffix", ["png", "html", "json", "PNG"])
def test_file_is_written_into_a_folder_that_is_made(tmp_path, suffix):
    place = tmp_path / "new" / f"a.{suffix}"
    write_taggram(place, song(100), "model")
    assert place.stat().st_size > 500
    assert [path.name for path in place.parent.iterdir()] == [place.name]


def test_what_cannot_be_drawn_or_written_is_said(tmp_path):
    with pytest.raises(BadInputError, match=r"a\.gif"):
        write_taggram(tmp_path / "a.gif", song(100), "model")
    (tmp_path / "file").write_text("")
    with pytest.raises(AutotagError, match="cannot be written"):
        write_taggram(tmp_path / "file" / "a.json", song(100), "model")


def song_with_silence(silent: list[int], seconds: float = 600.0, hop: float = CLIP_SECONDS) -> TaggedFile:
    tagged = song(seconds, hop)
    silences = np.isin(np.arange(tagged.windows), silent)
    rows = np.where(silences[:, None], np.float32(0), tagged.window_probabilities)
    return dataclasses.replace(tagged, window_probabilities=rows, silent_windows=silences)


def test_silent_windows_are_marked_in_every_form():
    tagged = song_with_silence([3, 4])
    windows = json.loads(taggram_json(tagged, "model"))["windows"]
    assert [number for number, window in enumerate(windows) if window["silent"]] == [3, 4]
    assert not any(windows[3]["probabilities"])

    taggram = summarise(tagged)
    assert np.isnan(taggram.cells).all(axis=0).tolist() == tagged.silences.tolist()
    assert not np.isnan(np.delete(taggram.cells, [3, 4], axis=1)).any()
    page = taggram_html(taggram, tagged, "model")
    assert page.count(SILENCE_COLOUR) == 2 * len(taggram.tags)
    data = json.loads(re.search(r'id="data">(.*?)</script>', page)[1])
    assert [cell is None for cell in data["cells"][0]] == tagged.silences.tolist()

    picture = matplotlib.image.imread(io.BytesIO(taggram_png(taggram)))[:, :, :3]
    grey = np.array([int(SILENCE_COLOUR[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    seen = (np.abs(picture - grey).max(axis=2) < 0.01).mean()
    assert seen > 0.02
    assert (
        np.abs(matplotlib.image.imread(io.BytesIO(taggram_png(summarise(song()))))[:, :, :3] - grey).max(axis=2) < 0.01
    ).mean() < 0.002


def test_column_of_several_windows_is_the_mean_of_those_that_are_heard():
    tagged = song_with_silence([0, 1, 2], 7_200, 1.0)
    taggram = summarise(tagged)
    group = int(re.search(r"a column is the mean of (\d+)", taggram.subtitle)[1])
    assert group > 3
    rows = tagged.window_probabilities[3:group, tagged.tags.index(taggram.tags[0])]
    assert taggram.cells[0, 0] == pytest.approx(rows.mean())


def test_song_of_silence_alone_can_be_drawn():
    tagged = song_with_silence(list(range(21)))
    taggram = summarise(tagged)
    assert taggram.top == 0.1
    assert not taggram.above.any()
    assert taggram_png(taggram).startswith(b"\x89PNG")
    assert "NaN" not in taggram_html(taggram, tagged, "model")
