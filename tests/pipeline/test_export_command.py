from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from command_runner import invoke
from engine_model import EngineModel
from exported_model import TAGS

from pipeline.commands import export
from preprocessing.errors import AutotagError, BadInputError
from serving.engines import exporting
from serving.engines.exporting import Variant
from serving.engines.measurement import Seconds


def run(*arguments: object) -> Result:
    return invoke("export", *arguments)


def test_litert_files_labels_and_report_are_written_and_measured(model: EngineModel, tmp_path: Path) -> None:
    out = tmp_path / "on" / "device"
    done = run("--litert", out, "--model", model.path, "--examples", model.examples, "--rounds", 1)
    assert done.exit_code == 0, done.exception
    files = [f"autotag-{weights}.tflite" for weights in ("float16", "float32", "int8")]
    assert sorted(path.name for path in out.iterdir()) == [*files, "labels.txt", "report.json"]
    assert (out / "labels.txt").read_text(encoding="utf-8").splitlines() == list(TAGS)
    report = json.loads((out / "report.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == ["SavedModel", "LiteRT float32", "LiteRT float16", "LiteRT int8"]
    assert all(row["seconds"] > 0 and 0 <= row["roc_auc"] <= 1 for row in rows.values())
    assert rows["LiteRT float32"]["difference"] < 1e-4
    assert rows["LiteRT int8"]["megabytes"] < 0.35 * rows["LiteRT float32"]["megabytes"]
    assert "| LiteRT int8 |" in done.stdout
    assert list(out.parent.iterdir()) == [out]


def test_what_was_not_measured_is_shown_as_not_measured(model: EngineModel, tmp_path: Path) -> None:
    done = run("--onnx", tmp_path / "onnx", "--model", model.path, "--rounds", 0)
    assert done.exit_code == 0, done.exception
    assert sorted(path.name for path in (tmp_path / "onnx").iterdir()) == ["model.onnx", "report.json"]
    row = json.loads((tmp_path / "onnx" / "report.json").read_text())["rows"][1]
    assert (row["seconds"], row["roc_auc"], row["difference"]) == (None, None, None)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("| ONNX float32")]
    assert line.count("not measured") == 5


def test_nothing_is_written_where_the_measurement_fails_and_what_was_there_stays(
    model: EngineModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> list[Any]:
        raise AutotagError("no answer")

    monkeypatch.setattr(exporting, "_measure", fail)
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_text("the older one")
    done = run("--onnx", tmp_path / "onnx", "--model", model.path)
    assert isinstance(done.exception, AutotagError)
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]
    assert (tmp_path / "onnx" / "model.onnx").read_text() == "the older one"
    assert [path.name for path in (tmp_path / "onnx").iterdir()] == ["model.onnx"]


@pytest.mark.parametrize("arguments", [(), ("--litert", "same", "--onnx", "same")])
def test_at_least_one_folder_and_not_one_for_both(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert "give --litert DIR or --onnx DIR" in done.stderr


def test_examples_that_are_not_there_are_refused_before_tensorflow_is_loaded(
    model: EngineModel, tmp_path: Path
) -> None:
    done = run("--onnx", tmp_path / "onnx", "--model", model.path, "--examples", tmp_path / "none*")
    assert isinstance(done.exception, BadInputError)
    assert "no file matches" in str(done.exception)


def test_a_missing_model_is_refused(tmp_path: Path) -> None:
    done = run("--onnx", tmp_path / "onnx", "--model", tmp_path / "none")
    assert isinstance(done.exception, BadInputError)
    assert not (tmp_path / "onnx").exists()


def test_table_shows_cpu_time_as_a_ratio_to_the_float32_file(capsys: pytest.CaptureFixture[str]) -> None:
    taken = Seconds(wall=0.2, cpu=0.1)
    rows = [
        Variant("LiteRT float32", 21.66, taken.wall, taken.cpu, 0.87, 0.0),
        Variant("LiteRT int8", 5.914, 0.09, 0.045, None, None),
    ]
    export._print_table(rows)
    assert capsys.readouterr().out.splitlines()[-1] == (
        "| LiteRT int8 | 5.91 | 0.090 | 0.045 | 0.45 | not measured | not measured |"
    )
