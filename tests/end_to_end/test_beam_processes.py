"""The pipeline's Beam steps with several processes, set in the configuration alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.timeout(900)


def autotag(*arguments: object) -> str:
    call = [str(Path(sys.executable).parent / "autotag"), *map(str, arguments)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tfrecord")}


def test_examples_and_statistics_are_made_by_two_processes(tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    autotag("make-corpus", clips, "--clips", 48, "--seed", 3)
    config = {
        "root": str(tmp_path / "run"),
        "data": {
            "audio_dir": str(clips),
            "annotations": str(clips / "annotations_final.csv"),
            "n_tags": 20,
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
    assert hashes(next((tmp_path / "run" / "shards").iterdir())) == hashes(out)
    statistics = list((tmp_path / "run" / "artifacts" / "StatisticsGen").glob("statistics/*/Split-*/FeatureStats.pb"))
    assert len(statistics) == 3
