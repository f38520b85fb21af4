"""PreprocessSettings and what is known by them: examples that are there stay known."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from preprocessing.clip_format import ClipFormat
from preprocessing.manifest import Clip, Manifest, Shard
from preprocessing.settings import PreprocessSettings, settings_in

DEFAULT = PreprocessSettings()
OTHER = PreprocessSettings(
    split="published",
    ratio=(2, 1, 1),
    seed=3,
    n_tags=5,
    synonyms="default",
    shard_clips=7,
    tags=("a", "b"),
    dataset="table",
    columns=(("path", "file"),),
    clip=ClipFormat(8_000, 16_000),
    excerpts="even",
    excerpt_count=4,
    subset="x",
)
CLIPS = (Clip("1", "0/1.mp3", "t", ("a",), "train", "00"),)


@pytest.mark.parametrize(
    ("settings", "shard", "manifest"),
    [
        (
            DEFAULT,
            "dfafdc1a0195aec33108a03ccd48063ad308357c8ef157a9ddff6ee773f0e7c7",
            "ffb9cc3804cd9c1b9bf9439ace986bb165f44b00816186fb5ecf82bb47c26820",
        ),
        (
            OTHER,
            "5a21ad6b79c3b74b9eb6edf53bab1b69fcb799c1aacdf08094eb7d49ceca5e25",
            "19935106bb620b0b4d3a5e5a62ec6a141c3548b744b943411d20abc0512f789b",
        ),
    ],
    ids=["default", "other"],
)
def test_examples_that_were_written_before_are_known_again(settings, shard, manifest):
    made_with = settings.clip, settings.excerpt_rule
    assert Shard("train", 0, 1, CLIPS, *made_with).fingerprint == shard
    assert Manifest(CLIPS, ("a",), 7, (), *made_with).fingerprint == manifest


def test_settings_are_the_same_text_in_a_summary_and_in_a_components_properties():
    assert json.dumps(asdict(OTHER)) == (
        '{"split": "published", "ratio": [2, 1, 1], "seed": 3, "n_tags": 5, "synonyms": "default", "shard_clips": 7, '
        '"tags": ["a", "b"], "dataset": "table", "columns": [["path", "file"]], '
        '"clip": {"sample_rate": 8000, "samples": 16000}, "excerpts": "even", "excerpt_count": 4, "subset": "x"}'
    )
    for settings in (DEFAULT, OTHER):
        assert PreprocessSettings.from_json(json.loads(json.dumps(asdict(settings)))) == settings


def test_each_setting_says_what_it_is():
    for setting in settings_in(PreprocessSettings).values():
        assert setting.description
