"""What the steps' entry point makes of what KFP hands over, on inputs captured from KFP 2.14.3's driver."""

import errno
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_up_run import write_evaluation

from pipeline.kubeflow.entrypoint import (
    CONTENT,
    Arguments,
    check_inputs,
    describe_content,
    describe_output,
    exit_code,
    for_kubeflow,
    for_tfx,
    local_path,
    parse_arguments,
    run_and_step,
    run_step,
)
from preprocessing.errors import AutotagError, BadInputError

CAPTURED = Path(__file__).parent / "kubeflow"
STEPS = ("RequireNoAnomalies", "StatisticsGen", "Trainer-mel-1d")
S3 = "StatisticsGen-s3"
"""A step whose run has its artifacts under s3://."""


def captured(step: str, scheme: str | None = None) -> Arguments:
    """The step's command line, as the launcher calls it; with artifacts on another store where a scheme is given."""
    text = (CAPTURED / f"{step}.json").read_text()
    values = json.loads(text.replace("minio://", scheme) if scheme else text)
    argv = [json.dumps(values["executor_input"]) if word == "{{$}}" else word for word in values["command"]]
    return parse_arguments(argv)


def artifacts(message: dict[str, Any], side: str) -> dict[str, dict[str, Any]]:
    found = message.get(side, {}).get("artifacts", {})
    return {key: value["artifacts"][0] for key, value in found.items()}


@pytest.mark.parametrize(
    ("step", "scheme", "folder"),
    [
        (S3, "s3://", "/s3/"),
        *((step, "minio://", "/minio/") for step in STEPS),
        *((step, "gs://", "/gcs/") for step in STEPS),
    ],
)
def test_tfx_is_given_local_folders_and_declared_types(step: str, scheme: str, folder: str) -> None:
    arguments = captured(step, scheme)
    message = for_tfx(arguments.executor_input, arguments.inputs_spec)
    for side in ("inputs", "outputs"):
        before = artifacts(arguments.executor_input, side)
        for key, artifact in artifacts(message, side).items():
            assert artifact["uri"] == before[key]["uri"].replace(scheme, folder)
            assert artifact["type"]["instanceSchema"].startswith("title: tfx.")
            assert CONTENT not in artifact.get("metadata", {})
    assert "executor-logs" in artifacts(arguments.executor_input, "outputs")
    assert "executor-logs" not in artifacts(message, "outputs")


@pytest.mark.parametrize("step", [*STEPS, S3])
def test_tfx_itself_reads_the_translated_input(step: str) -> None:
    from google.protobuf import json_format
    from kfp.pipeline_spec import pipeline_spec_pb2
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_entrypoint_utils as tfx_entrypoint

    arguments = captured(step)
    message = for_tfx(arguments.executor_input, arguments.inputs_spec)
    parsed = json_format.ParseDict(message, pipeline_spec_pb2.ExecutorInput(), ignore_unknown_fields=True)
    for side in (parsed.inputs, parsed.outputs):
        for key, (artifact,) in tfx_entrypoint.parse_raw_artifact_dict(side.artifacts).items():
            assert artifact.uri.startswith(("/minio/mlpipeline/", "/s3/mlpipeline/")), key
            if key in ("examples", "transformed_examples"):
                assert json.loads(artifact.split_names) == ["train", "valid", "test"]


def test_address_on_no_store_is_refused() -> None:
    assert local_path("/already/local") == "/already/local"
    with pytest.raises(BadInputError, match=r"hdfs://x.*pipeline_root"):
        local_path("hdfs://x/y")


def test_output_file_has_the_addresses_again_and_what_was_written() -> None:
    arguments = captured("StatisticsGen")
    written = {
        "artifacts": {
            "statistics": {
                "artifacts": [{"name": "", "uri": "/minio/x", "metadata": {"split_names": "[]"}}],
            }
        }
    }
    message = for_kubeflow(written, arguments.executor_input, lambda key, path: {CONTENT: f"{key} in {path}"})
    (statistics,) = message["artifacts"]["statistics"]["artifacts"]
    address = artifacts(arguments.executor_input, "outputs")["statistics"]["uri"]
    assert statistics["uri"] == address
    assert statistics["metadata"] == {"split_names": "[]", CONTENT: f"statistics in {local_path(address)}"}


def test_evaluation_carries_the_figures_that_were_measured(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "first", 0.9061, baseline=None)
    found = describe_output("evaluation", str(tmp_path / "first"))
    assert found.pop(CONTENT) == describe_content(str(tmp_path / "first"))
    assert found == {"roc_auc": 0.9061, "min_roc_auc": 0.8, "allowed_change": -0.005}
    write_evaluation(tmp_path / "refused", 0.7321, baseline=0.9)
    found = describe_output("evaluation", str(tmp_path / "refused"))
    assert (found["roc_auc"], found["baseline_roc_auc"]) == (0.7321, 0.9)
    assert found["gate_reasons"] == "ROC-AUC is 0.7321; at least 0.8000 is asked"
    write_evaluation(tmp_path / "not a number", math.nan)
    found = describe_output("evaluation", str(tmp_path / "not a number"))
    assert "roc_auc" not in found, "KFP's metadata holds no NaN"
    json.dumps(found, allow_nan=False)


def test_other_outputs_carry_their_content_alone(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "blessing", 0.9061)
    assert describe_output("blessing", str(tmp_path / "blessing")).keys() == {CONTENT}


def test_content_counts_files_at_any_depth_and_no_markers_of_directories(tmp_path: Path) -> None:
    (tmp_path / "Format-Serving" / "variables").mkdir(parents=True)
    (tmp_path / "Format-Serving" / "saved_model.pb").write_bytes(b"12345")
    (tmp_path / "Format-Serving" / "variables" / "variables.index").write_bytes(b"123")
    (tmp_path / "Format-Serving" / "assets").write_bytes(b"")
    assert describe_content(str(tmp_path)) == "2 files, 8 bytes"
    assert describe_content(str(tmp_path / "nowhere")) == "0 files, 0 bytes"


def one_input(folder: Path, content: str | None) -> dict[str, Any]:
    metadata = {CONTENT: content} if content else {}
    artifact = {"uri": str(folder), "type": {"instanceSchema": ""}, "metadata": metadata}
    return {"inputs": {"artifacts": {"model": {"artifacts": [artifact]}}}}


def test_input_that_lost_its_subfolders_stops_the_step(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"12345")
    check_inputs(one_input(tmp_path, "1 files, 5 bytes"))
    check_inputs(one_input(tmp_path, None))
    with pytest.raises(AutotagError, match=r"input model.*2 files, 8 bytes were written and 1 files, 5 bytes arrived"):
        check_inputs(one_input(tmp_path, "2 files, 8 bytes"))


def test_step_without_artifacts_runs(tmp_path: Path) -> None:
    output = tmp_path / "output.json"
    arguments = Arguments("x.Y", {"outputs": {"outputFile": str(output)}}, {}, ("--runner=DirectRunner",))
    run_step(arguments, lambda given, message: output.write_text("{}") and None)
    assert json.loads(output.read_text()) == {}


def test_full_disk_is_said_with_the_step_and_the_free_space(tmp_path: Path) -> None:
    uri = f"{tmp_path}/music/run-1/Transform/execution-1/transform_graph"
    output = {"type": {"instanceSchema": "title: tfx.TransformGraph"}, "uri": uri}
    message = {"outputs": {"artifacts": {"transform_graph": {"artifacts": [output]}}, "outputFile": "unused"}}

    def fill(arguments: Arguments, message: dict[str, Any]) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{uri}/saved_model.pb")

    with pytest.raises(AutotagError, match=rf"Transform: No space left on device \({uri}/saved_model.pb\)") as raised:
        run_step(Arguments("x.Y", message, {}, ()), fill)
    assert f" at {tmp_path}" in str(raised.value)


@pytest.mark.parametrize("step", [*STEPS, S3])
def test_log_lines_say_run_and_step(step: str) -> None:
    found = run_and_step(captured(step).executor_input)
    assert found
    assert found[1] == step.removesuffix("-s3")
    assert len(found[0]) == 36, "KFP's run id"
    assert run_and_step({"outputs": {"outputFile": "x"}}) is None


def test_log_is_json_where_the_environment_says_so() -> None:
    program = (
        "import logging\n"
        "from pipeline.console import logs\nfrom pipeline.kubeflow import entrypoint\n"
        "def run(arguments, run_tfx):\n"
        "    with logs.of_run('r'), logs.of_node('Transform'):\n"
        "        logging.getLogger('components.x').info('50 clips', extra={'clips': 50})\n"
        "        raise entrypoint.AutotagError('broken')\n"
        "entrypoint.run_step = run\n"
        "entrypoint.main(['--executor_class_path', 'x.Y', '--json_serialized_invocation_args', '{}'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "AUTOTAG_LOG": "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [(line["run"], line["node"], line["message"], line.get("clips")) for line in lines] == [
        ("r", "Transform", "50 clips", 50),
        ("r", "Transform", "broken", None),
    ]


def test_own_errors_are_one_line_and_others_whole(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(error: BaseException) -> None:
        raise error

    assert exit_code(lambda: fail(AutotagError("the delivery is broken"))) == 1
    assert capsys.readouterr().err == "autotag: the delivery is broken\n"
    assert exit_code(lambda: fail(BadInputError("no such folder"))) == 2
    capsys.readouterr()
    assert exit_code(lambda: fail(ZeroDivisionError("x"))) == 1
    assert "Traceback" in capsys.readouterr().err
    assert exit_code(lambda: None) == 0


def test_process_ends_without_exit_handlers_and_with_what_it_said() -> None:
    program = (
        "import atexit, os\n"
        "from pipeline.kubeflow import entrypoint\n"
        "atexit.register(os.abort)\n"
        "entrypoint.run_step = lambda arguments, run: print('done')\n"
        "entrypoint.main(['--executor_class_path', 'x.Y', '--json_serialized_invocation_args', '{}'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_wrong_command_line_is_said() -> None:
    with pytest.raises(BadInputError, match="in a pod"):
        parse_arguments(["--executor_class_path", "x.Y", "--json_serialized_invocation_args", "{"])
