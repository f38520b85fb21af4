"""A pushed model written as files that need no TensorFlow, each tried and measured beside the SavedModel."""

from __future__ import annotations

import contextlib
import json
import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import soundfile as sf

from preprocessing.audio.mp3 import mp3_rate
from preprocessing.clip_format import ClipFormat
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.whole_files import temporary_folder
from serving.engines.measurement import Measured, Worker, read_clips, roc_auc, take_turns
from serving.model_info import ModelInfo, read_model_info
from serving.model_versions import SAVED_MODEL_NAME

if TYPE_CHECKING:
    from serving.graph.ensemble import Ensemble

FileFormat = Literal["litert", "onnx"]
Say = Callable[[str], None]

REPORT_NAME: Final = "report.json"
SAVED_MODEL: Final = "SavedModel"


@dataclass(frozen=True)
class Variant:
    """One row of the report.

    Attributes:
        name: of the variant.
        megabytes: its file's or files' size, 10^6 bytes.
        seconds: one MP3 file of a clip's length from bytes to probabilities, one thread on one core; None where not
            measured.
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


def export_files(
    version_dir: Path, targets: Mapping[FileFormat, Path], records: Sequence[str], rounds: int, say: Say
) -> Iterator[tuple[Path, list[Variant]]]:
    """Write a pushed version into folders, whole or not at all, and yield each folder with what was measured.

    Args:
        version_dir: of the pushed version.
        targets: format -> folder.
        records: TFRecord files of clips with tags, for ROC-AUC; may be none.
        rounds: timings of each file; 0 for none.
        say: is told what is being done.

    Raises:
        BadInputError: a folder cannot be written.
        AutotagError: a file does not answer.
    """
    info = read_model_info(version_dir)
    say(f"loading {version_dir}")
    from serving.graph.ensemble import Ensemble  # TensorFlow, five seconds

    ensemble = Ensemble.restore(version_dir)
    for file_format, target in targets.items():
        with _whole_folder(target) as folder:
            files = _WRITERS[file_format](folder, ensemble, info, version_dir.name, say)
            rows = _measure(version_dir, info, files, records, rounds, say)
            _write_report(folder / REPORT_NAME, version_dir, info, rows)
        yield target, rows


def _write_litert(folder: Path, ensemble: Ensemble, info: ModelInfo, version: str, say: Say) -> dict[str, Path]:
    from serving.graph import litert

    files = {}
    for weights in litert.WEIGHTS:
        say(f"converting to LiteRT, {weights}")
        content = litert.convert_model(ensemble, info, weights, version)
        needs_more = [name for name in litert.operators(content) if name in ("CUSTOM", "FLEX")]
        if needs_more:
            raise AutotagError(f"the {weights} model has operators that LiteRT alone cannot run: {needs_more}")
        files[f"LiteRT {weights}"] = folder / f"autotag-{weights}.tflite"
        files[f"LiteRT {weights}"].write_bytes(content)
    litert.write_label_file(folder, info)
    return files


def _write_onnx(folder: Path, ensemble: Ensemble, info: ModelInfo, version: str, say: Say) -> dict[str, Path]:
    from serving.graph import onnx_export

    say("converting to ONNX")
    path = folder / "model.onnx"
    path.write_bytes(onnx_export.convert_model(ensemble, info, version))
    return {"ONNX float32": path}


_WRITERS: Final = {"litert": _write_litert, "onnx": _write_onnx}


@contextlib.contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write to, whose files go to ``target`` when all is well and nowhere else."""
    with contextlib.ExitStack() as stack:
        try:
            stage = stack.enter_context(temporary_folder(target.parent))
        except OSError as error:
            raise BadInputError(f"{target} cannot be written: {error.strerror}") from error
        yield stage
        target.mkdir(exist_ok=True)
        for file in sorted(stage.iterdir()):
            file.replace(target / file.name)


def _measure(
    version_dir: Path, info: ModelInfo, files: Mapping[str, Path], records: Sequence[str], rounds: int, say: Say
) -> list[Variant]:
    paths = {SAVED_MODEL: version_dir, **files}
    say("measuring " + ", ".join(paths))
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(Measured(name, str(path), info.clip))) for name, path in paths.items()]
        song = Path(scratch) / "clip.mp3"
        write_clip(song, info.clip)
        probabilities = {}
        for worker in workers:
            worker.call(file=str(song))  # each answers, or nothing is written
            if records:
                out = Path(scratch) / "probabilities.npy"
                worker.call(examples=list(records), out=str(out))
                probabilities[worker.measured.name] = np.load(out)
        seconds = take_turns(workers, rounds, file=str(song)) if rounds else {}
    labels = np.array([[tag in tags for tag in info.tags] for _, tags in read_clips(records)])
    rows = []
    for name, path in paths.items():
        timed, answers = seconds.get(name), probabilities.get(name)
        rows.append(
            Variant(
                name,
                _size(path) / 1e6,
                None if timed is None else timed.wall,
                None if timed is None else timed.cpu,
                None if answers is None else roc_auc(labels, answers),
                None if answers is None else float(np.abs(answers - probabilities[SAVED_MODEL]).max()),
            )
        )
    return rows


def write_clip(path: Path, clip: ClipFormat) -> None:
    """Write an MP3 file of a clip's length: a gliding tone and noise, mono, at the clip's rate where MP3 has it."""
    rate = mp3_rate(clip.sample_rate)
    time = np.arange(round(clip.seconds * rate)) / rate
    noise = np.random.default_rng(0).normal(0, 0.05, len(time))
    sf.write(path, 0.4 * np.sin(2 * np.pi * (200 + 40 * time) * time) + noise, rate, format="MP3")


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    variables = (path / "variables").glob("*")
    return (path / SAVED_MODEL_NAME).stat().st_size + sum(file.stat().st_size for file in variables)


def _write_report(path: Path, version_dir: Path, info: ModelInfo, rows: Sequence[Variant]) -> None:
    report = {
        "model": str(version_dir),
        "machine": f"{platform.machine()}, {_cpu_name()}",
        "seconds": f"one MP3 file of {info.clip.seconds:g} s from bytes to probabilities, "
        "one thread, one core, median, taking turns",
        "rows": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU not named")
