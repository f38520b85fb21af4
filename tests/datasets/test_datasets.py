"""What every data set of the registry holds, and what the registry may not import."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from datasets.dataset import Dataset, Remote
from datasets.registry import DATASETS, RULES, find_dataset
from preprocessing.errors import BadInputError

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
    for tags in (dataset.tags, *(subset.tags for subset in dataset.subsets.values())):
        assert len(set(tags)) == len(tags)


def test_rules_of_one_name_are_one_rule() -> None:
    for dataset in DATASETS.values():
        for name, rule in dataset.rules.items():
            assert RULES[name] is rule


def test_remotes_checksums_are_digests() -> None:
    for dataset in DATASETS.values():
        for remote in dataset.remotes:
            assert remote.url.startswith("https://")
            assert remote.digest is None or re.fullmatch(r"sha256:[0-9a-f]{64}|(git|sha1):[0-9a-f]{40}", remote.digest)


def test_what_others_found_binds_no_download_and_what_the_publisher_says_does() -> None:
    said = Remote("a.zip", "https://x.example/a.zip", 7, "md5:00")
    assert (said.file.size, said.file.digest) == (7, "md5:00")
    found = Remote("a.zip", "https://x.example/a.zip", 7, "md5:00", published=False)
    assert (found.file.size, found.file.digest) == (None, None)


def test_unknown_data_set_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        BadInputError, match="data set 'x': expected one of mtat, synthetic, table, folders, jamendo, msd, fma, gtzan"
    ):
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
