"""``autotag dataset``: the list, a card, and what is there of a data set in a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_runner import invoke
from published_layouts import SAMPLES, Sample

from datasets.registry import DATASETS
from preprocessing.errors import BadInputError


@pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
def test_folder_of_every_data_set_is_shown_with_counts_splits_tags_and_missing_audio(
    sample: Sample, tmp_path: Path
) -> None:
    sample.write(tmp_path)
    gone = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".mp3", ".wav", ".au"))[0]
    gone.unlink()
    arguments = [sample.dataset, tmp_path, *(["--subset", sample.subset] if sample.subset else [])]
    shown = invoke("dataset", *arguments, catch_exceptions=False).stdout
    card = DATASETS[sample.dataset].card
    assert shown.startswith(f"{sample.dataset}: {card.title}\n")
    assert f"licence: {card.licence}\n" in shown
    there = json.loads(invoke("dataset", *arguments, "--json", catch_exceptions=False).stdout)["there"]
    assert set(there["tags"]) == sample.tags
    if sample.counts:
        assert there["splits"]["published"] == sample.counts
        assert " ".join(f"{count:,}" for count in sample.counts.values()) in " ".join(shown.split())
    assert ("artist" in there["splits"]) == sample.artists
    missing = there["on_disk"]["missing"]
    if sample.dataset == "folders":  # nothing names what is not there
        assert (missing, there["on_disk"]["found"]) == ([], there["clips"])
        return
    assert (len(missing), there["on_disk"]["found"]) == (1, there["clips"] - 1)
    assert str(gone).endswith(missing[0])
    assert f"missing: 1 ({missing[0]})" in shown


def test_artists_on_two_sides_are_counted_where_the_split_is_published(tmp_path: Path) -> None:
    (sample,) = (one for one in SAMPLES if one.name == "jamendo-top50tags")
    sample.write(tmp_path)
    shown = invoke("dataset", "jamendo", tmp_path).stdout
    assert "artists in two parts of the published split: 0\n" in shown
    assert "subset top50tags (shown): " in shown
    assert "as published  32,136  10,888  11,356" in shown
    splits = tmp_path / "data" / "splits"
    (splits / "split-3").symlink_to(splits / "split-0")
    assert "as published" not in invoke("dataset", "jamendo", tmp_path, "--annotations", splits / "split-3").stdout
    table = tmp_path / "data" / "splits" / "split-0" / "autotagging_top50tags-test.tsv"
    table.write_bytes(table.read_bytes().replace(b"artist_000004", b"artist_000000"))
    assert "artists in two parts of the published split: 1\n" in invoke("dataset", "jamendo", tmp_path).stdout


def test_list_names_every_data_set_with_its_licence() -> None:
    listed = json.loads(invoke("dataset", "--json").stdout)
    assert [one["name"] for one in listed] == list(DATASETS)
    shown = invoke("dataset").stdout
    for name in DATASETS:
        assert f"\n{name} " in shown


def test_card_without_a_folder_says_what_can_be_downloaded() -> None:
    shown = invoke("dataset", "fma").stdout
    assert "subset small (shown): 8 genres, 1,000 clips of each; 6,400 / 800 / 800\n" in shown
    assert "download: autotag download fma FOLDER (2 files)\n" in shown
    assert "clips:" not in shown
    assert "not offered: the audio is no longer distributed" in invoke("dataset", "msd").stdout


def test_parts_that_lie_elsewhere_are_named(tmp_path: Path) -> None:
    (sample,) = (one for one in SAMPLES if one.name == "gtzan")
    sample.write(tmp_path)
    (tmp_path / "genres").rename(tmp_path / "elsewhere")
    given = ["--annotations", tmp_path, "--audio-dir", tmp_path / "elsewhere"]
    assert "audio: 20 of 20 on disk" in invoke("dataset", "gtzan", *given).stdout
    assert isinstance(invoke("dataset", "gtzan", "--annotations", tmp_path).exception, BadInputError)
    elsewhere = invoke("dataset", "gtzan", "--annotations", tmp_path, "--audio-dir", "s3://music/gtzan").exception
    assert "s3://music/gtzan: audio is looked for on this machine alone" in str(elsewhere)


def test_unknown_data_set_or_subset_is_refused() -> None:
    for arguments, words in ((["x"], "data set 'x'"), (["jamendo", "--subset", "x"], "subset 'x'")):
        error = invoke("dataset", *arguments).exception
        assert isinstance(error, BadInputError)
        assert words in str(error)
