"""``autotag export``: the pushed model as files for phones (LiteRT) and other runtimes (ONNX), checked and measured."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from preprocessing.errors import BadInputError
from preprocessing.examples import record_damage
from serving.engines.exporting import FileFormat, Variant, export_files
from serving.model_versions import find_model

DEFAULT_MODEL_DIR: Final = Path("demo-run/pushed")
NOT_MEASURED: Final = "not measured"


@click.command("export", short_help="Write the pushed model for phones (LiteRT) or as ONNX.")
@click.option(
    "--litert", "litert_dir", type=click.Path(file_okay=False, path_type=Path), help="Folder for LiteRT files."
)
@click.option("--onnx", "onnx_dir", type=click.Path(file_okay=False, path_type=Path), help="Folder for the ONNX file.")
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    default=DEFAULT_MODEL_DIR,
    show_default=True,
    help="A pushed model, or the folder of its versions (the newest is taken).",
)
@click.option(
    "--examples",
    "examples",
    metavar="GLOB",
    help="TFRecords of clips with tags, such as those of the test split, for the ROC-AUC of each variant.",
)
@click.option(
    "--rounds", default=11, show_default=True, type=click.IntRange(min=0), help="Timings of each; 0 for none."
)
def command(litert_dir: Path | None, onnx_dir: Path | None, model_dir: Path, examples: str | None, rounds: int) -> None:
    """Write the pushed model as files that need no TensorFlow, and measure them beside the SavedModel.

    --litert writes one file each with float32, float16 and int8 weights, labels.txt and report.json; --onnx writes
    model.onnx and report.json. All take waveforms and hold tags and thresholds: LiteRT one clip a call (a batch of
    several is refused; call once for each), ONNX any number. Nothing is written where a step fails.

    \b
    Example:
        autotag export --litert on-device --examples 'demo-run/artifacts/ClipExampleGen/examples/1/Split-test/*'
        autotag export --onnx onnx
    """
    targets: dict[FileFormat, Path] = {}
    if litert_dir is not None:
        targets["litert"] = litert_dir
    if onnx_dir is not None:
        targets["onnx"] = onnx_dir
    if not targets or len({target.resolve() for target in targets.values()}) < len(targets):
        raise click.UsageError("give --litert DIR or --onnx DIR, or both with two folders")
    version_dir, records = find_model(model_dir), _find_examples(examples)
    for target, rows in export_files(version_dir, targets, records, rounds, _say):
        _print_table(rows)
        click.echo(f"autotag: wrote {target}")


def _say(text: str) -> None:
    click.echo(f"autotag: {text}", err=True)


def _find_examples(pattern: str | None) -> list[str]:
    if pattern is None:
        return []
    paths = sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    if not paths:
        raise BadInputError(f"--examples: no file matches {pattern}")
    for path in paths:
        if damage := record_damage(Path(path)):
            raise BadInputError(f"--examples: {path} is no whole TFRecord file: {damage}")
    return paths


def _print_table(rows: Sequence[Variant]) -> None:
    base = next((row for row in rows if row.name == "LiteRT float32"), rows[0])

    def shown(value: float | None, digits: int) -> str:
        return NOT_MEASURED if value is None else f"{value:.{digits}f}"

    click.echo(
        f"| variant | MB | s per MP3 clip, 1 core | CPU s | of {base.name}'s CPU s | ROC-AUC | largest difference |\n"
        "|---|---|---|---|---|---|---|"
    )
    for row in rows:
        ratio = None if row.cpu_seconds is None or base.cpu_seconds is None else row.cpu_seconds / base.cpu_seconds
        cells = (
            row.name,
            f"{row.megabytes:.2f}",
            shown(row.seconds, 3),
            shown(row.cpu_seconds, 3),
            shown(ratio, 2),
            shown(row.roc_auc, 4),
            shown(row.difference, 4),
        )
        click.echo("| " + " | ".join(cells) + " |")
