"""``autotag preprocess``: audio and annotations to TFRecords, by Beam."""

from __future__ import annotations

import contextlib
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.console import completion
from pipeline.console.beam_command import BeamCommand
from pipeline.console.logs import json_log, log_format_option
from pipeline.console.setting_options import BEAM, PREPROCESS, options, preprocess_settings
from preprocessing.beam.settings import settings_of
from preprocessing.names import escaped


@click.command(cls=BeamCommand, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("audio_dir", shell_complete=completion.folders)
@click.argument("annotations", shell_complete=completion.files)
@click.argument("out", shell_complete=completion.folders)
@options(PREPROCESS)
@options(BEAM)
@log_format_option
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    audio_dir: str,
    annotations: str,
    out: str,
    log_format: str,
    dry_run: bool,
    **typed: Any,
) -> None:
    """Turn the clips of AUDIO_DIR that ANNOTATIONS names into TFRecords in OUT.

    A killed call is finished by the next one. A clip that cannot be used goes to rejected.jsonl with its reason. Any
    further option is passed to Beam. Folders may be local, s3://, gs:// or hdfs://; on a cluster, where every worker
    sees them under the same name.

    \b
    Examples:
        autotag preprocess mtat mtat/annotations_final.csv mtat-examples --split clean --workers 2
        autotag preprocess s3://music/mtat s3://music/mtat/annotations_final.csv s3://music/examples \\
            --runner flink --flink-master flink:8081 --parallelism 16 --worker-pool localhost:50000
        autotag preprocess jamendo/audio jamendo/data/splits/split-0 examples --dataset jamendo --subset top50tags \\
            --split published --tags-file default --excerpts even --excerpt-count 4
    """
    from pipeline.console.preprocess_log import JsonLog, TerminalLog
    from pipeline.preprocess_job import Log, check_beam, preprocess

    beam = settings_of(typed, ctx.args)
    own_names = [name for each in ctx.command.params for name in each.opts]
    check_beam(beam, own_names, audio_dir, annotations, out, on_machine=not dry_run)
    settings = preprocess_settings(typed)
    verbose = bool(ctx.find_root().params.get("verbose"))
    as_json = log_format == "json"
    with json_log(verbose) if as_json else contextlib.nullcontext():
        log: Log = JsonLog() if as_json else TerminalLog(verbose)
        summary = preprocess(audio_dir, annotations, out, settings, beam, log, dry_run)
        if as_json and summary is not None:
            log.say(f"written: {out}", **{name: summary[name] for name in ("clips", "examples", "rejected")})
    if summary is not None:
        print_summary(summary, out)


def print_summary(summary: dict[str, Any], out: str) -> None:
    """Print the counts of a finished job and where its output went."""
    table = Table()
    for column in ("split", "clips", "examples"):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, counts in summary["splits"].items():
        table.add_row(split, str(counts["clips"]), str(counts["examples"]))
    console = Console(highlight=False)
    console.print(table)
    reasons = ", ".join(f"{reason} {count}" for reason, count in summary["rejected_by_reason"].items())
    rejected = f" ({reasons}), see {out}/rejected.jsonl" if reasons else ""
    console.print(f"rejected: {summary['rejected']}{rejected}", soft_wrap=True)
    incomplete = summary["incomplete"]
    if incomplete["clips"]:
        first = incomplete["first"][0]
        console.print(
            f"incomplete: {incomplete['clips']}, marked in their examples; the first is {escaped(first['path'])}: "
            f"{first['reason']}",
            soft_wrap=True,
        )
    unlisted = summary["unlisted_audio"]["files"]
    if unlisted:
        console.print(f"audio files that no annotation names: {unlisted}, left out", soft_wrap=True)
    console.print(f"written: {out} (summary.json, tags.txt, {summary['shards']} shards)", soft_wrap=True)
