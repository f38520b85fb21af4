"""The pipeline's Beam steps with several processes, set in the configuration alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command_runner import autotag
from folders import hashes

pytestmark = pytest.mark.timeout(900)


def test_examples_and_statistics_are_made_by_two_processes(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    autotag("make-corpus", clips, "--clips", 48, "--seed", 3)
    config = {
        "root": str(tmp_path / "run"),
        "data": {
            "audio_dir": str(clips),
            "annotations": str(clips / "annotations_final.csv"),
            "heads": {"tags": {"top": 20}},
            "shard_clips": 6,
            "ratio": [8, 4, 4],
        },
        "beam": {"workers": 2},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    autotag("run", path, "--to-node", "StatisticsGen")
    out = tmp_path / "direct"
    sizes = ["--shard-clips", 6, "--tags", 20, "--ratio", "8:4:4"]
    autotag("preprocess", clips, clips / "annotations_final.csv", out, *sizes, "--workers", 1)
    assert hashes(next((tmp_path / "run" / "shards").iterdir()), "*.tfrecord") == hashes(out, "*.tfrecord")
    statistics = list((tmp_path / "run" / "artifacts" / "StatisticsGen").glob("statistics/*/Split-*/FeatureStats.pb"))
    assert len(statistics) == 3
