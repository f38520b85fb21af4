"""What every step's container runs on Kubeflow: TFX's own entry point, with artifacts made as TFX expects them.

KFP's launcher has downloaded the input artifacts when this begins, and uploads the outputs when it has ended; TFX is
given those local folders. What has to be translated (seen with KFP 2.14.3 and TFX 1.16):

- addresses: ``minio://BUCKET/KEY`` is the folder ``/minio/BUCKET/KEY``, ``s3://`` is ``/s3/``, ``gs://`` is ``/gcs/``;
  in the output file the addresses stand again. Nothing is written to the object store from here, so no markers of
  directories, which TensorFlow's file systems leave there and the launcher takes for files, come into being.
- types: inputs arrive with an empty schema; the declared one is among the arguments.
- outputs of KFP's own, of types ``system.*`` (the log), which TFX has no class for.
- what the Evaluator measured and the gate asked goes with its output as metadata, so that it stands in Kubeflow's own
  ML Metadata; blessing, push and counts of clips are metadata that the components set themselves.
- how many files and bytes an output has goes with it as metadata, and a step whose input arrives with fewer (launchers
  have lost what lay in subfolders) stops before it works on a part.
- libraries in C++ that abort in a destructor when the process ends, after the outputs were written: it ends without.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import logging
import math
import os
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import click

from pipeline.console import logs
from pipeline.runs.evaluation import gate_failures, gate_figures
from pipeline.runs.full_disk import full_disk_error
from preprocessing.errors import AutotagError, BadInputError

log = logging.getLogger(__name__)

STORES: Final = {"minio://": "/minio/", "s3://": "/s3/", "gs://": "/gcs/"}
"""Scheme of an object store -> where KFP's launcher keeps its files in the pod."""

CONTENT: Final = "autotag_content"
"""Metadata of an artifact: what its folder held when the step that made it ended."""
EVALUATION: Final = "evaluation"
"""The Evaluator's output that has the figures."""
GATE_REASONS: Final = "gate_reasons"
"""Metadata of the evaluation: a line for each threshold that the model missed."""

Message = dict[str, Any]
"""A protobuf message as JSON has it."""


@dataclass(frozen=True)
class Arguments:
    """What the launcher is told to call a step with (pipeline.kubeflow.compiler, by TFX's compiler).

    Attributes:
        executor_class: dotted name of the component's executor.
        executor_input: KFP's ExecutorInput.
        inputs_spec: KFP's ComponentInputsSpec, with the declared types.
        beam: options for Beam.
    """

    executor_class: str
    executor_input: Message
    inputs_spec: Message
    beam: tuple[str, ...]


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Read the command line.

    Raises:
        BadInputError: it is not that of a step.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--executor_class_path", required=True)
    parser.add_argument("--json_serialized_invocation_args", required=True, type=json.loads)
    parser.add_argument("--json_serialized_inputs_spec_args", default={}, type=json.loads)
    try:
        known, beam = parser.parse_known_args(list(argv))
    except (argparse.ArgumentError, ValueError) as error:
        raise BadInputError(f"this is what Kubeflow calls in a pod, with the step's arguments: {error}") from None
    return Arguments(
        known.executor_class_path,
        known.json_serialized_invocation_args,
        known.json_serialized_inputs_spec_args,
        tuple(beam),
    )


def local_path(uri: str) -> str:
    """Return where the launcher keeps an artifact's files.

    Raises:
        BadInputError: the address is on no store that the launcher has a folder for.
    """
    for scheme, folder in STORES.items():
        if uri.startswith(scheme):
            return folder + uri.removeprefix(scheme)
    if uri.startswith("/"):
        return uri
    raise BadInputError(
        f"artifact {uri}: expected an address on {', '.join(STORES)}; set kubeflow.pipeline_root to one"
    )


def for_tfx(executor_input: Message, inputs_spec: Message) -> Message:
    """Return the ExecutorInput that TFX is given: local paths, every input with its type, TFX's outputs alone.

    Raises:
        BadInputError: an artifact's address is on no store that the launcher has a folder for.
    """
    message = copy.deepcopy(executor_input)
    declared = inputs_spec.get("artifacts", {})
    for key, artifact in _artifacts(message, "inputs"):
        artifact["uri"] = local_path(artifact["uri"])
        if not _has_type(artifact.get("type", {})):
            artifact["type"] = declared[key]["artifactType"]
        artifact.get("metadata", {}).pop(CONTENT, None)
    outputs = message.get("outputs", {}).get("artifacts", {})
    for key, artifact in list(_artifacts(message, "outputs")):
        if artifact.get("type", {}).get("schemaTitle", "").startswith("system."):
            del outputs[key]
        else:
            artifact["uri"] = local_path(artifact["uri"])
    return message


def _has_type(artifact_type: Message) -> bool:
    return any(artifact_type.get(kind) for kind in ("instanceSchema", "schemaTitle", "schemaUri"))


def _artifacts(executor_input: Message, side: str) -> Iterator[tuple[str, Message]]:
    for key, found in executor_input.get(side, {}).get("artifacts", {}).items():
        for artifact in found.get("artifacts", []):
            yield key, artifact


def for_kubeflow(
    executor_output: Message, executor_input: Message, describe: Callable[[str, str], Mapping[str, float | str]]
) -> Message:
    """Return the ExecutorOutput that the launcher is given: the addresses again, and what each output holds.

    Args:
        executor_output: what TFX wrote.
        executor_input: KFP's.
        describe: makes an output's further metadata from its key and its folder.

    Raises:
        BadInputError: an artifact's address is on no store that the launcher has a folder for.
    """
    message = copy.deepcopy(executor_output)
    addresses = {key: artifact["uri"] for key, artifact in _artifacts(executor_input, "outputs")}
    for key, found in message.get("artifacts", {}).items():
        for artifact in found.get("artifacts", []):
            artifact["uri"] = addresses[key]
            artifact.setdefault("metadata", {}).update(describe(key, local_path(addresses[key])))
    return message


def describe_output(key: str, path: str) -> dict[str, float | str]:
    """Return the metadata of an output: what its folder holds and, of the evaluation, the figures.

    The figures are those of pipeline.runs.evaluation.GateFigures, by name; one that was not measured is left out.
    """
    described: dict[str, float | str] = {CONTENT: describe_content(path)}
    if key == EVALUATION:
        figures = asdict(gate_figures(Path(path)))
        described |= {name: value for name, value in figures.items() if value is not None and math.isfinite(value)}
        reasons = "\n".join(gate_failures(Path(path)))
        described |= {GATE_REASONS: reasons} if reasons else {}
    return described


def describe_content(path: str) -> str:
    """Say how many files a folder holds at any depth, and how many bytes in all.

    A file without bytes does not count: an object store's stand-in for a directory is one.
    """
    sizes = []
    for folder, _, names in os.walk(path):
        for name in names:
            status = os.stat(os.path.join(folder, name))
            if stat.S_ISREG(status.st_mode) and status.st_size:
                sizes.append(status.st_size)
    return f"{len(sizes)} files, {sum(sizes)} bytes"


def check_inputs(executor_input: Message) -> None:
    """Compare what arrived with what was sent.

    Raises:
        AutotagError: an input is not whole.
        BadInputError: an artifact's address is on no store that the launcher has a folder for.
    """
    for key, artifact in _artifacts(executor_input, "inputs"):
        sent = artifact.get("metadata", {}).get(CONTENT)
        path = local_path(artifact["uri"])
        arrived = describe_content(path)
        if sent and sent != arrived:
            raise AutotagError(
                f"input {key}, {artifact['uri']}: {sent} were written and {arrived} arrived in {path}; "
                "the object store (a lifecycle rule?) or KFP's launcher lost some, or somebody changed them; make them "
                "again with --set kubeflow.caching=false"
            )


def run_and_step(executor_input: Message) -> tuple[str, str] | None:
    """Return the run's id and the step's name; None where no output's address (.../RUN/STEP/EXECUTION/KEY) has them."""
    for _, artifact in _artifacts(executor_input, "outputs"):
        parts = artifact["uri"].split("/")
        if len(parts) > 4:
            return parts[-4], parts[-3]
    return None


def run_step(arguments: Arguments, run_tfx: Callable[[Arguments, Message], None]) -> None:
    """Run one step.

    Args:
        arguments: the command line.
        run_tfx: runs TFX's entry point on the translated ExecutorInput, which writes the output file.

    Raises:
        AutotagError: an input is not whole, a disk is full, or the component's own.
    """
    run, step = run_and_step(arguments.executor_input) or (None, arguments.executor_class)
    with logs.of_run(run), logs.of_node(step):
        check_inputs(arguments.executor_input)
        message = for_tfx(arguments.executor_input, arguments.inputs_spec)
        try:
            run_tfx(arguments, message)
        except Exception as error:
            outputs = [artifact["uri"] for _, artifact in _artifacts(message, "outputs")]
            remedy = "make room on the volume, or give the pods of this step a node with more"
            own = full_disk_error(step, error, (*outputs[:1], tempfile.gettempdir()), remedy)
            if own:
                raise own from error
            raise
    output_file = arguments.executor_input["outputs"]["outputFile"]
    with open(output_file, encoding="utf-8") as file:
        written = json.load(file)
    with open(output_file, "w", encoding="utf-8") as file:
        json.dump(for_kubeflow(written, arguments.executor_input, describe_output), file)


def run_tfx_entrypoint(arguments: Arguments, executor_input: Message) -> None:
    """Call TFX's entry point."""
    from tfx.orchestration.kubeflow.v2.container import kubeflow_v2_run_executor

    from pipeline.runs.tfx_packing import tfx_not_packed

    flags = argparse.Namespace(
        executor_class_path=arguments.executor_class,
        json_serialized_invocation_args=json.dumps(executor_input),
        json_serialized_inputs_spec_args=json.dumps(arguments.inputs_spec),
    )
    with tfx_not_packed():
        kubeflow_v2_run_executor.main((flags, list(arguments.beam)))


def exit_code(run: Callable[[], None]) -> int:
    """Run and return the process' exit code; an error of our own is said in its one message, any other in full.

    With AUTOTAG_LOG=json in the environment (kubeflow.env) that, and the log, are one JSON object a line.
    """
    try:
        with logs.json_log() if os.environ.get("AUTOTAG_LOG") == "json" else contextlib.nullcontext():
            run()
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except AutotagError as error:
        print(f"autotag: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInputError) else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main(argv: Sequence[str] | None = None) -> None:
    """Run the step that the command line names and end the process without destructors of C++ libraries."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    words = sys.argv[1:] if argv is None else argv
    code = exit_code(lambda: run_step(parse_arguments(words), run_tfx_entrypoint))
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
