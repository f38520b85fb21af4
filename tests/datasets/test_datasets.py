"""What every data set of the registry holds, and what the registry may not import."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from audio_samples import annotation_rows, clip_paths, table

from datasets.dataset import Dataset, Remote, Source
from datasets.registry import DATASETS, RULES, find_dataset
from preprocessing.errors import BadInputError
from preprocessing.splits import Draw

ROOT = Path(__file__).parents[2]
every_dataset = pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))


@every_dataset
def test_card_is_whole_and_the_modules_docstring_says_the_same(dataset: Dataset) -> None:
    card = dataset.card
    assert card.title
    assert card.licence
    assert card.sources
    said = " ".join((importlib.import_module(f"datasets.{dataset.name}").__doc__ or "").split()).lower()
    for word in ("source", "licence", "citation") if not card.citation else (card.licence, card.citation):
        assert word.lower() in said.replace("published by", "source")
    for count in card.counts.values():
        assert f"{count:,}" in said


@every_dataset
def test_published_tags_are_a_list_without_doubles(dataset: Dataset) -> None:
    assert len(set(dataset.tags)) == len(dataset.tags)


@every_dataset
def test_reader_yields_clips_that_every_rule_can_place(dataset: Dataset, tmp_path: Path) -> None:
    clips = {path: ["guitar"] for path in clip_paths(64)}
    rows = annotation_rows(clips)
    if "published" in dataset.rules:
        rows = [
            [*row, extra] for row, extra in zip(rows, ["split", *["train", "valid", "test", "test"] * 16], strict=True)
        ]
        rows = [[*row, extra] for row, extra in zip(rows, ["artist", *map(str, range(64))], strict=True)]
    (tmp_path / "table.csv").write_text(table(rows))
    found = dataset.read(Source(str(tmp_path), str(tmp_path / "table.csv")))
    assert [clip.path for clip in found] == list(clips)
    assert len({clip.clip_id for clip in found}) == 64
    for clip in found:
        assert clip.track
        assert clip.tags == ("guitar",)
        for rule in dataset.rules.values():
            assert rule.split_of(clip, Draw()) in ("train", "valid", "test")


@every_dataset
def test_annotations_that_are_not_there_are_said(dataset: Dataset) -> None:
    with pytest.raises(BadInputError, match="annotations nowhere.csv: No such file"):
        dataset.read(Source(".", "nowhere.csv"))


def test_rules_of_one_name_are_one_rule() -> None:
    for dataset in DATASETS.values():
        for name, rule in dataset.rules.items():
            assert RULES[name] is rule


def test_remotes_checksums_are_digests() -> None:
    for dataset in DATASETS.values():
        for remote in dataset.remotes:
            assert remote.url.startswith("https://")
            assert remote.digest is None or re.fullmatch(r"sha256:[0-9a-f]{64}", remote.digest)


def test_what_others_found_binds_no_download_and_what_the_publisher_says_does() -> None:
    said = Remote("a.zip", "https://x.example/a.zip", 7, "md5:00")
    assert (said.file.size, said.file.digest) == (7, "md5:00")
    found = Remote("a.zip", "https://x.example/a.zip", 7, "md5:00", published=False)
    assert (found.file.size, found.file.digest) == (None, None)


def test_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInputError, match="data set 'x': expected one of mtat, synthetic, table"):
        find_dataset("x")


def test_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys, datasets.registry\n"
        "heavy = {'numpy', 'scipy', 'soundfile', 'librosa', 'httpx', 'apache_beam', 'tensorflow', 'keras', 'tfx'}\n"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_preprocessing_imports_no_data_set() -> None:
    for file in (ROOT / "preprocessing").glob("*.py"):
        assert not re.search(r"^\s*(from|import) datasets\b", file.read_text(), re.MULTILINE), file
