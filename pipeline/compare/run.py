"""A comparison from beginning to end: what is missing is trained, what there is is read back and written down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.compare.config import ComparisonConfig, Entry
from pipeline.compare.output import write_results
from pipeline.compare.results import Evaluation, Row, find_evaluations, make_rows
from pipeline.compare.runner import Progress, train_missing
from pipeline.entry_keys import entry_key
from pipeline.runs.local_runner import prepare_inputs
from preprocessing.errors import AutotagError


def compare(
    config: ComparisonConfig, config_file: Path, out: Path, minutes: float | None, say: Callable[[str], None]
) -> tuple[list[Row], Progress, list[Path]]:
    """Run a comparison.

    Args:
        config: the comparison.
        config_file: the file that it was read from.
        out: folder of the results.
        minutes: after which no training goes on; 0 trains nothing.
        say: takes lines for people.

    Returns:
        The rows, how far the comparison is, and the files that were written.

    Raises:
        BadInputError: audio, annotations or settings cannot be used.
        AutotagError: there is nothing to compare.
    """
    progress, evaluations = train_and_read(config, config_file, minutes, say)
    if not evaluations:
        reasons = "; ".join(f"{one.entry.title}: {one.reason}" for one in progress.failed) or "nothing was trained yet"
        raise AutotagError(f"there is nothing to compare: {reasons}")
    rows = make_rows(config, evaluations.values())
    return rows, progress, write_results(out, config, rows, progress)


def train_and_read(
    config: ComparisonConfig, config_file: Path, minutes: float | None, say: Callable[[str], None]
) -> tuple[Progress, dict[Entry, Evaluation]]:
    """Train what is missing; return how far that is, and what ML Metadata then knows of every entry.

    Arguments and errors as of ``compare``, which makes rows of it.
    """
    keys = {data: entry_keys(config, data) for data in config.data}
    pipelines = {data: config.pipeline(data) for data in config.data}

    def present() -> dict[Entry, Evaluation]:
        found: dict[Entry, Evaluation] = {}
        for data, pipeline in pipelines.items():
            found |= find_evaluations(pipeline, keys[data])
        return found

    def trained() -> set[Entry]:
        return {entry for entry, evaluation in present().items() if evaluation.current}

    progress = train_missing(config, config_file, trained, minutes, say)
    return progress, present()


def entry_keys(config: ComparisonConfig, data: str) -> dict[str, Entry]:
    """Return what the evaluations of a data set's entries are known by, with the data as they are now.

    Raises:
        BadInputError: its audio or annotations cannot be used.
    """
    pipeline = config.pipeline(data)
    inputs = prepare_inputs(pipeline)
    return {entry_key(pipeline, inputs, entry.name): entry for entry in config.entries() if entry.data == data}
