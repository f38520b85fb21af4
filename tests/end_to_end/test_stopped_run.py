"""Ctrl-C while one of TFX's own nodes runs its Beam job elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from command_runner import AUTOTAG, autotag
from flink_double import FlinkDouble

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration whose examples are there, so that StatisticsGen is the first node with something to do."""
    folder = tmp_path_factory.mktemp("stopped")
    clips = folder / "clips"
    autotag("make-corpus", clips, "--clips", 48, "--seed", 3)
    data = {
        "audio_dir": str(clips),
        "annotations": str(clips / "annotations_final.csv"),
        "heads": {"tags": {"top": 20}},
        "shard_clips": 6,
        "ratio": [8, 4, 4],
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"root": str(folder / "run"), "data": data}))
    autotag("run", path, "--to-node", "ClipExampleGen")
    return path


def test_ctrl_c_cancels_a_tfx_nodes_job_on_flink_and_the_next_run_finishes_it(config: Path, tmp_path: Path) -> None:
    with FlinkDouble(tmp_path / "double") as flink:
        beam = {
            "runner": "flink",
            "flink_master": flink.master,
            "worker_command": "/bin/true",
            "options": flink.options,
        }
        on_flink = tmp_path / "flink.yaml"
        on_flink.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"beam": beam}))
        code, said = flink.run_until_ctrl_c([AUTOTAG, "run", str(on_flink), "--to-node", "StatisticsGen"])
    assert code == 1, said
    assert "Component StatisticsGen is running." in said
    assert "autotag: stopped; " in said
    assert "Traceback" not in said
    assert flink.calls == ["/jobs/ours?mode=cancel"]
    assert "StatisticsGen" in autotag("runs", config, "--nodes").stdout
    said = autotag("run", config, "--to-node", "StatisticsGen").stdout
    assert "1 nodes ran, 1 taken from earlier runs" in said
