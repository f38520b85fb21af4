"""FMA's sample to a pushed network with a genre and a mood; another model is scored on it by the tags they share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import yaml
from command_runner import invoke
from published_layouts import SAMPLES
from registered_networks import build_tiny, tiny_network

from components.shared_tags import find_shared_tags
from components.tag_scores import score_shared_tags
from models.registry import Network
from preprocessing.examples import Example, read_records
from serving.model_info import read_model_info

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def tiny() -> Iterator[Network]:
    with tiny_network() as network:
        yield network


@pytest.fixture(scope="module")
def folder(tiny: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FMA's sample, its configuration, and what a run left."""
    from pipeline.runs.local_runner import run_pipeline
    from pipeline.settings.config import load_config

    folder = tmp_path_factory.mktemp("fma")
    (sample,) = (one for one in SAMPLES if one.name == "fma-large")
    sample.write(folder)
    config = {
        "name": "sets",
        "root": str(folder / "run"),
        "data": {
            "dataset": "fma",
            "subset": "large",
            "audio_dir": str(folder / "fma_large"),
            "annotations": str(folder / "fma_metadata"),
            "split": "published",
            "clip": {"seconds": 1, "sample_rate": 16000},
            "excerpts": "even",
            "excerpt_count": 2,
            "heads": {
                "genre": {"kind": "one-of", "top": 2, "prefix": "genre_top---"},
                "mood": {"kind": "one-of", "tags": ["mood---sad", "mood---neutral", "mood---happy"]},
                "styles": {"top": 3, "prefix": "genre---"},
            },
        },
        "networks": {"tiny": {"epochs": 2}},
        "gate": {"min_roc_auc": 0.0, "max_drop": 1.0},
    }
    (folder / "fma.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    run_pipeline(load_config(str(folder / "fma.yaml")))
    return folder


def test_network_with_one_genre_one_mood_and_several_styles_is_pushed(folder: Path) -> None:
    (version,) = (folder / "run" / "pushed").iterdir()
    info = read_model_info(version)
    assert [(head.name, head.kind, head.size) for head in info.heads.heads] == [
        ("genre", "one-of", 2),
        ("mood", "one-of", 3),
        ("styles", "multi-label", 3),
    ]
    assert set(info.tags[:2]) == {"genre_top---Rock", "genre_top---Folk"}
    assert set(info.tags[5:]) == {"genre---Rock", "genre---Folk", "genre---Punk"}
    assert set(info.scores["test"].accuracy) == {"genre", "mood"}
    assert info.data.clips == {"train": 24, "valid": 8, "test": 8}


def test_model_of_other_tags_is_scored_by_those_that_the_data_shares(folder: Path) -> None:
    from serving.graph.ensemble import Ensemble

    keras.utils.set_random_seed(4)
    build_tiny(4, seed=4).save(folder / "foreign.keras")
    (folder / "four.txt").write_text("folk\nsitar\nROCK\nloud rock\n")
    (folder / "same.yaml").write_text("loud rock: [genre---Punk]\n")
    done = invoke(
        "import_weights",
        "tiny",
        folder / "foreign.keras",
        *("--tags", folder / "four.txt", "--out", folder / "imported"),
        *("--evaluate", folder / "fma.yaml", "--same-tags", folder / "same.yaml"),
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[1] == (
        "3 of the model's 4 tags are the data's too: folk (genre---Folk, genre_top---Folk), "
        "ROCK (genre---Rock, genre_top---Rock), loud rock (genre---Punk); not in the data: sitar"
    )
    clips, waveforms = [], []
    (shards,) = (folder / "run" / "artifacts" / "ClipExampleGen" / "examples").iterdir()
    for path in sorted(shards.glob("Split-test/*.tfrecord")):
        with path.open("rb") as file:
            for record in read_records(file):
                features = Example.FromString(record).features.feature
                clips.append([tag.decode() for tag in features["tags"].bytes_list.value])
                waveforms.append(np.frombuffer(features["waveform"].bytes_list.value[0], "<i2") / np.float32(32768))
    answers = Ensemble.restore(Path(lines[0])).from_waveform(np.stack(waveforms).astype("f4")).numpy()
    data = {tag for own in clips for tag in own}
    shared = find_shared_tags(("folk", "sitar", "ROCK", "loud rock"), data, {"genre---Punk": "loud rock"})
    expected = score_shared_tags(clips, answers, shared)
    runs = json.loads(invoke("runs", folder / "fma.yaml", "--json").stdout)
    assert runs[-1]["roc_auc"] == pytest.approx(expected.roc_auc, abs=1e-6)
    assert runs[-1]["ensemble"] == "foreign.keras"
    assert 0 < expected.scored_tags <= 3
