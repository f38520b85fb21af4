"""ComparisonWriter: the last node of a comparison that is one pipeline, as on Kubeflow: its results, from evaluations.

Locally each training is a run of its own, and ``autotag compare`` reads the evaluations back from ML Metadata; here the
orchestrator does that and passes them with their properties. Rows and files are made by the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from tfx import types
from tfx.dsl.components.base import base_component, base_executor, executor_spec
from tfx.types import artifact_utils, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter

from components.comparison_metrics import METRICS
from components.ensemble_trainer import with_inputs
from components.kept_answers import COSTS
from pipeline.compare.config import ComparisonConfig, Entry
from pipeline.compare.output import write_results
from pipeline.compare.results import Evaluation, make_rows
from pipeline.compare.runner import Progress
from preprocessing.errors import AutotagError


def input_key(entry: Entry) -> str:
    """Name of the input that is an entry's evaluation."""
    return f"evaluation_{entry.data}__{entry.name}"


class ComparisonWriterExecutor(base_executor.BaseExecutor):  # type: ignore[misc]
    """Makes rows of the evaluations and writes them."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Write the files into the artifact and into the comparison's root; the best of each data set as properties.

        Raises:
            BadInputError: two networks of one data set were scored on different clips or tags.
            AutotagError: an evaluation came without its figures.
        """
        config = ComparisonConfig.model_validate_json(exec_properties["config"])
        evaluations = [_evaluation(entry, input_dict[input_key(entry)]) for entry in config.entries()]
        rows = make_rows(config, evaluations)
        progress = Progress(done=[one.entry for one in evaluations])
        comparison = artifact_utils.get_single_instance(output_dict["comparison"])
        for folder in (comparison.uri, config.root):
            write_results(Path(folder), config, rows, progress)
        for row in reversed(rows):  # the best of each data set comes last
            comparison.set_string_custom_property(f"best_on_{row.data}", f"{row.network}, {row.recipe}")
            comparison.set_float_custom_property(f"roc_auc_on_{row.data}", row.figures["roc_auc"].value)


def _evaluation(entry: Entry, artifacts: list[types.Artifact]) -> Evaluation:
    evaluation = artifact_utils.get_single_instance(artifacts)
    names = (*METRICS, *COSTS)
    missing = [name for name in names if not evaluation.has_custom_property(name)]
    if missing:
        raise AutotagError(
            f"the evaluation of {entry.title} has no {missing[0]}: ML Metadata lost it, or it is of an earlier version "
            "of this program; run again without the cache"
        )
    properties = {name: evaluation.get_float_custom_property(name) for name in names}
    return Evaluation.of(entry, evaluation.uri, properties, current=True)


class ComparisonWriterSpec(ComponentSpec):  # type: ignore[misc]
    """ComparisonWriter's interface, without its evaluations."""

    PARAMETERS: ClassVar[dict[str, Any]] = {"config": ExecutionParameter(type=str)}
    INPUTS: ClassVar[dict[str, Any]] = {}
    OUTPUTS: ClassVar[dict[str, Any]] = {"comparison": ChannelParameter(type=standard_artifacts.ModelEvaluation)}

    @classmethod
    def of_entries(cls, entries: Sequence[Entry]) -> type[ComparisonWriterSpec]:
        """Return the interface for a comparison's entries."""
        keys = map(input_key, entries)
        return with_inputs(cls, {key: ChannelParameter(type=standard_artifacts.ModelEvaluation) for key in keys})


class ComparisonWriter(base_component.BaseComponent):  # type: ignore[misc]
    """Writes a comparison's results."""

    SPEC_CLASS = ComparisonWriterSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(ComparisonWriterExecutor)

    def __init__(self, config: ComparisonConfig, evaluations: Mapping[Entry, types.BaseChannel]) -> None:
        """Construct the component.

        Args:
            config: the comparison; its files are written to its root besides.
            evaluations: of all of its entries.
        """
        super().__init__(
            spec=ComparisonWriterSpec.of_entries(list(evaluations))(
                config=config.model_dump_json(exclude={"kubeflow"}),
                comparison=types.Channel(type=standard_artifacts.ModelEvaluation),
                **{input_key(entry): channel for entry, channel in evaluations.items()},
            )
        )
