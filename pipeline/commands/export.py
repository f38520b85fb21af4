"""``autotag export``: the pushed model as files for phones (LiteRT) and other runtimes (ONNX), checked and measured."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import numpy as np
import soundfile as sf

from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from preprocessing.errors import AutotagError, BadInputError
from serving.engines.measurement import Measured, Worker, read_clips, roc_auc, take_turns
from serving.model_info import SAVED_MODEL_NAME, ModelInfo, find_model, read_model_info

if TYPE_CHECKING:
    from serving.graph.ensemble import Ensemble

DEFAULT_MODEL_DIR: Final = Path("demo-run/pushed")
REPORT_NAME: Final = "report.json"
SAVED_MODEL: Final = "SavedModel"
NOT_MEASURED: Final = "not measured"


@dataclass(frozen=True)
class Row:
    """One variant in the report.

    Attributes:
        name: of the variant.
        megabytes: its file's or files' size, 10^6 bytes.
        seconds: one MP3 file of 29.1 s from bytes to probabilities, one thread on one core; None where not measured.
        cpu_seconds: the same in CPU time.
        roc_auc: macro mean over the tags with both classes in the examples; None where there are none.
        difference: the largest of the probability to the SavedModel's; None where there are no examples.
    """

    name: str
    megabytes: float
    seconds: float | None
    cpu_seconds: float | None
    roc_auc: float | None
    difference: float | None


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
    model.onnx and report.json. All take waveforms and hold tags and thresholds. Nothing is written where a step fails.

    \b
    Example:
        autotag export --litert on-device --examples 'demo-run/artifacts/ClipExampleGen/examples/1/Split-test/*'
        autotag export --onnx onnx
    """
    targets = [target for target in (litert_dir, onnx_dir) if target is not None]
    if not targets or len({target.resolve() for target in targets}) < len(targets):
        raise click.UsageError("give --litert DIR or --onnx DIR, or both with two folders")
    version_dir = find_model(model_dir)
    info = read_model_info(version_dir)
    records = _find_examples(examples)
    click.echo(f"autotag: loading {version_dir}", err=True)
    from serving.graph.ensemble import Ensemble  # TensorFlow, five seconds

    ensemble = Ensemble.restore(version_dir)
    for target, write in ((litert_dir, _write_litert), (onnx_dir, _write_onnx)):
        if target is None:
            continue
        with _whole_folder(target) as folder:
            files = write(folder, ensemble, info, version_dir.name)
            rows = _measure(version_dir, info, files, records, rounds)
            _write_report(folder / REPORT_NAME, version_dir, rows)
        _print_table(rows)
        click.echo(f"autotag: wrote {target}")


def _find_examples(pattern: str | None) -> list[str]:
    if pattern is None:
        return []
    paths = sorted(path for path in glob.glob(pattern) if os.path.isfile(path))
    if not paths:
        raise BadInputError(f"--examples: no file matches {pattern}")
    return paths


def _write_litert(folder: Path, ensemble: Ensemble, info: ModelInfo, version: str) -> dict[str, Path]:
    from serving.graph import litert

    files = {}
    for weights in litert.WEIGHTS:
        click.echo(f"autotag: converting to LiteRT, {weights}", err=True)
        content = litert.convert_model(ensemble, info, weights, version)
        needs_more = [name for name in litert.operators(content) if name in ("CUSTOM", "FLEX")]
        if needs_more:
            raise AutotagError(f"the {weights} model has operators that LiteRT alone cannot run: {needs_more}")
        files[f"LiteRT {weights}"] = folder / f"autotag-{weights}.tflite"
        files[f"LiteRT {weights}"].write_bytes(content)
    litert.write_label_file(folder, info)
    return files


def _write_onnx(folder: Path, ensemble: Ensemble, info: ModelInfo, version: str) -> dict[str, Path]:
    from serving.graph import onnx_export

    click.echo("autotag: converting to ONNX", err=True)
    path = folder / "model.onnx"
    path.write_bytes(onnx_export.convert_model(ensemble, info, version))
    return {"ONNX float32": path}


@contextlib.contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write to, whose files go to ``target`` when all is well and nowhere else."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.tmp-", dir=target.parent))
    except OSError as error:
        raise BadInputError(f"{target} cannot be written: {error.strerror}") from error
    try:
        yield stage
        target.mkdir(exist_ok=True)
        for file in sorted(stage.iterdir()):
            file.replace(target / file.name)
    finally:
        shutil.rmtree(stage)


def _measure(
    version_dir: Path, info: ModelInfo, files: dict[str, Path], records: Sequence[str], rounds: int
) -> list[Row]:
    measured = [Measured(SAVED_MODEL, str(version_dir)), *(Measured(name, str(path)) for name, path in files.items())]
    click.echo("autotag: measuring " + ", ".join(row.name for row in measured), err=True)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(one)) for one in measured]
        song = Path(scratch) / "clip.mp3"
        _write_mp3(song)
        probabilities = {}
        for worker in workers:
            worker.ask(file=str(song))  # each answers, or nothing is written
            if records:
                out = Path(scratch) / "probabilities.npy"
                worker.ask(examples=list(records), out=str(out))
                probabilities[worker.measured.name] = np.load(out)
        seconds = take_turns(workers, rounds, file=str(song)) if rounds else {}
    labels = np.array([[tag in tags for tag in info.tags] for _, tags in read_clips(records)])
    rows = []
    for one in measured:
        timed, answers = seconds.get(one.name), probabilities.get(one.name)
        rows.append(
            Row(
                one.name,
                _size(Path(one.path)) / 1e6,
                None if timed is None else timed.wall,
                None if timed is None else timed.cpu,
                None if answers is None else roc_auc(labels, answers),
                None if answers is None else float(np.abs(answers - probabilities[SAVED_MODEL]).max()),
            )
        )
    return rows


def _write_mp3(path: Path) -> None:
    """A clip of 29.1 s: a gliding tone and noise, 16 kHz mono as MagnaTagATune's."""
    time = np.arange(CLIP_SAMPLES) / SAMPLE_RATE
    noise = np.random.default_rng(0).normal(0, 0.05, CLIP_SAMPLES)
    sf.write(path, 0.4 * np.sin(2 * np.pi * (200 + 40 * time) * time) + noise, SAMPLE_RATE, format="MP3")


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    variables = (path / "variables").glob("*")
    return (path / SAVED_MODEL_NAME).stat().st_size + sum(file.stat().st_size for file in variables)


def _write_report(path: Path, version_dir: Path, rows: list[Row]) -> None:
    report = {
        "model": str(version_dir),
        "machine": f"{platform.machine()}, {_cpu_name()}",
        "seconds": "one MP3 file of 29.1 s from bytes to probabilities, one thread, one core, median, taking turns",
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU not named")


def _print_table(rows: list[Row]) -> None:
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
