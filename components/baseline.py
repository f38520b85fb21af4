"""The baseline: the newest pushed model, other than the candidate, that was measured on the same clips and tags.

The push folder is the record of blessed models, since a model that passed the gate is pushed at once, whole, with a
note of what it is (components.pusher). So a component finds the baseline in the same way on one machine and on
Kubeflow, where no step may ask ML Metadata, and a new model is measured against what is served.

A model that was just pushed is not its own baseline in the next run; an unchanged rerun would be evaluated and pushed
again. A model of another test split or other tags is none either: it may have been trained on what is the test split
now.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from tfx import types
from tfx.components import Evaluator
from tfx.components.evaluator import executor as evaluator_executor
from tfx.dsl.components.base import base_component, base_driver, base_executor, executor_spec
from tfx.orchestration.portable import base_driver as portable_driver
from tfx.orchestration.portable import data_types
from tfx.proto.orchestration import driver_output_pb2
from tfx.types import artifact_utils, standard_artifacts, standard_component_specs
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tfx.utils import path_utils
from tfx_bsl.coders import batch_util

from components.push_folder import PUSH_RECORD, push_record, versions
from serving.client.requests import MOST_CLIPS
from serving.model_info import MODEL_INFO_NAME

log = logging.getLogger(__name__)

NONE = "none"
"""The choice where there is no model to compare with."""


def choose_baseline(push_dir: str, test_set: str, candidate: str, tags: Sequence[str] | None = None) -> str:
    """Return the folder of the newest pushed version that the candidate is compared with, or NONE.

    A model of other tags, or of the same in another order, was not measured on the same: it is none.

    Args:
        push_dir: folder of pushed versions.
        test_set: what says which clips and tags a model was measured on.
        candidate: address of the model that is to be measured.
        tags: its outputs' names; None where they are not known, which agrees with all.
    """
    for version in reversed(versions(push_dir)):
        folder = os.path.join(push_dir, version)
        record = push_record(folder)
        if record.get("test_set") != test_set or record.get("model") == candidate:
            continue
        if tags is None or card_tags(folder) == list(tags):
            return folder
    return NONE


def card_tags(model_dir: str) -> list[str] | None:
    """Return the tags in a model's card, in order; None where it has no card."""
    try:
        with open(os.path.join(model_dir, MODEL_INFO_NAME), encoding="utf-8") as file:
            return [str(tag) for tag in json.load(file)["tags"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


class BaselineDriver(base_driver.BaseDriver, portable_driver.BaseDriver):  # type: ignore[misc]
    """Chooses before TFX looks into its cache: with the choice of an earlier run comes the Evaluator's result of then.

    Runs where TFX orchestrates itself; on Kubeflow the executor chooses.
    """

    def __init__(self, metadata_handle: Any) -> None:
        base_driver.BaseDriver.__init__(self, metadata_handle)
        portable_driver.BaseDriver.__init__(self, metadata_handle)

    def run(self, execution_info: data_types.ExecutionInfo) -> driver_output_pb2.DriverOutput:
        """Return the choice as the execution property ``chosen``."""
        output = driver_output_pb2.DriverOutput()
        choice = _choose(execution_info.input_dict, execution_info.exec_properties)
        output.exec_properties["chosen"].string_value = choice
        return output


def _choose(input_dict: dict[str, list[types.Artifact]], exec_properties: dict[str, Any]) -> str:
    candidate = artifact_utils.get_single_uri(input_dict["candidate"])
    tags = card_tags(path_utils.serving_model_dir(candidate))
    return choose_baseline(exec_properties["push_dir"], exec_properties["test_set"], candidate, tags)


class BaselineExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Copies the chosen model; leaves an empty folder where there is none."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Copy the baseline into the model artifact, in the place of a serving model."""
        chosen = exec_properties.get("chosen") or _choose(input_dict, exec_properties)
        model = artifact_utils.get_single_instance(output_dict["model"])
        model.set_string_custom_property("pushed_version", chosen)
        if chosen == NONE:
            log.warning("no other model was pushed for this test set: the candidate is compared with none")
            return
        log.warning("baseline: %s", chosen)
        shutil.copytree(
            chosen,
            path_utils.serving_model_dir(model.uri),
            ignore=shutil.ignore_patterns(PUSH_RECORD),
            dirs_exist_ok=True,
        )


class BaselineSpec(ComponentSpec):  # type: ignore[misc]
    """Baseline's interface."""

    PARAMETERS: ClassVar[dict[str, Any]] = {
        "push_dir": ExecutionParameter(type=str),
        "test_set": ExecutionParameter(type=str),
        "chosen": ExecutionParameter(type=str, optional=True),
    }
    INPUTS: ClassVar[dict[str, Any]] = {"candidate": ChannelParameter(type=standard_artifacts.Model)}
    OUTPUTS: ClassVar[dict[str, Any]] = {"model": ChannelParameter(type=standard_artifacts.Model)}


class Baseline(base_component.BaseComponent):  # type: ignore[misc]
    """Finds the model that a candidate is measured against."""

    SPEC_CLASS = BaselineSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(BaselineExecutor)
    DRIVER_CLASS = BaselineDriver

    def __init__(self, candidate: types.BaseChannel, push_dir: str, test_set: str) -> None:
        """Construct the component.

        Args:
            candidate: the model that is to be measured.
            push_dir: folder of pushed versions.
            test_set: what says which clips and tags a model is measured on.
        """
        super().__init__(
            spec=BaselineSpec(
                candidate=candidate,
                push_dir=push_dir,
                test_set=test_set,
                model=types.Channel(type=standard_artifacts.Model),
            )
        )


@contextlib.contextmanager
def batches_of_at_most(clips: int) -> Iterator[None]:
    """Let TFX read batches of at most so many examples: up to 1,000 else, a gigabyte of clips.

    Neither the Evaluator nor TensorFlow Model Analysis has an option for it.
    """
    before = batch_util._BATCH_SIZE_CAP
    batch_util._BATCH_SIZE_CAP = clips
    try:
        yield
    finally:
        batch_util._BATCH_SIZE_CAP = before


class BaselineEvaluatorExecutor(evaluator_executor.Executor):  # type: ignore[misc]
    """TFX's Evaluator, which takes an empty baseline for none and asks no more clips at a time than a model takes."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Evaluate; without a baseline by the lower bound alone."""
        baseline = artifact_utils.get_single_uri(input_dict[standard_component_specs.BASELINE_MODEL_KEY])
        if not os.path.exists(path_utils.serving_model_dir(baseline)):
            left_out = standard_component_specs.BASELINE_MODEL_KEY
            input_dict = {key: artifacts for key, artifacts in input_dict.items() if key != left_out}
        with batches_of_at_most(MOST_CLIPS):
            super().Do(input_dict, output_dict, exec_properties)


class BaselineEvaluator(Evaluator):  # type: ignore[misc]
    """TFX's Evaluator with a baseline that Baseline found, or did not find."""

    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(BaselineEvaluatorExecutor)
