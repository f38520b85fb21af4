"""The preprocessing job as a Dataflow flex template: what the launcher runs, and the step that ends the job.

A template's launcher builds the job's graph and leaves, so nothing of ours runs after the job. The summary and the
lists, which ``autotag preprocess`` writes when its job is done, are the graph's last step here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import apache_beam as beam

from datasets.reading import read_manifest
from pipeline.console.setting_options import PREPROCESS, preprocess_settings
from preprocessing import storage
from preprocessing.beam.options import parse_options
from preprocessing.job import add_shards
from preprocessing.manifest import Manifest
from preprocessing.output_folder import SUMMARY, finish_job, plan_job
from preprocessing.settings import PreprocessSettings
from preprocessing.shards import RECORDS_FOLDER

MANIFEST = "manifest.json"


def parameters() -> argparse.ArgumentParser:
    """Return the parser of the template's parameters; deploy/dataflow/metadata.json says the same to Dataflow."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--audio_dir", required=True)
    parser.add_argument("--annotations", required=True)
    parser.add_argument("--out", required=True)
    for option in PREPROCESS:
        choices = option.choices or None
        parser.add_argument(f"--{_parameter(option.name)}", type=option.kind, choices=choices, default=option.default)
    return parser


def _parameter(option: str) -> str:
    """Name of an option's parameter: a template's is given once, so columns are in one text."""
    return "columns" if option == "column" else option


def launch(arguments: Sequence[str] | None = None) -> None:
    """Build the job and send it; the manifest is left in OUT/.shards for the last step.

    Args:
        arguments: the template's parameters and Beam's options; the command line's unless given.

    Raises:
        BadInputError: the annotations or a folder cannot be used.
    """
    parser = parameters()
    own, beam_arguments = parser.parse_known_args(arguments)
    columns = [pair.strip() for pair in (own.columns or "").split(";") if pair.strip()]
    settings = preprocess_settings({**vars(own), "column": columns, "tags_file": own.tags_file or None})
    options = parse_options(beam_arguments, [name for action in parser._actions for name in action.option_strings])
    manifest = read_manifest(own.audio_dir, own.annotations, settings)
    records = storage.join(own.out, RECORDS_FOLDER)
    storage.make_folder(records)
    storage.write_whole(storage.join(records, MANIFEST), manifest.to_json())
    with beam.Pipeline(options=options) as pipeline:
        add_job(pipeline, manifest, own.audio_dir, own.out, settings)


def add_job(
    pipeline: beam.Pipeline, manifest: Manifest, audio_dir: str, out_dir: str, settings: PreprocessSettings
) -> None:
    """Add the shards, and after the last of them the summary.

    Raises:
        BadInputError: the output cannot be used.
        AutotagError: the lists of clips cannot be written.
    """
    out_dir = storage.absolute(out_dir)
    _ = (
        add_shards(pipeline, plan_job(manifest, out_dir).to_do, audio_dir, out_dir)
        | "AllShards" >> beam.combiners.Count.Globally()
        | "Finish" >> beam.Map(finish, out_dir, settings)
    )


def finish(shards: int, out_dir: str, settings: PreprocessSettings) -> str:
    """Write the summary and the lists; a second attempt does it again, or finds the manifest gone and all done.

    The manifest goes last: an attempt that is lost before that can be tried again.

    Args:
        shards: how many were written; says that all are.
        out_dir: where they are.
        settings: recorded in the summary.

    Returns:
        Path of the summary.

    Raises:
        AutotagError: as finish_job.
    """
    summary = storage.join(out_dir, SUMMARY)
    path = storage.join(out_dir, RECORDS_FOLDER, MANIFEST)
    if storage.exists(path) or not storage.exists(summary):
        finish_job(Manifest.from_json(storage.read_bytes(path).decode()), out_dir, settings, keep=[MANIFEST])
        storage.delete([path])
    return summary
