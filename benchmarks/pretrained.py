"""From MP3 bytes to tags with the same trained weights: the musicnn package's own extractor beside autotag's engines.

    python -m benchmarks.pretrained CLIP.mp3 ... [--model musicnn-mtt] [--rounds 5]

The package (musicnn 0.1.0) runs from its wheel, which is fetched as `autotag pretrained` does, under TensorFlow's
version 1 behaviour, which in 2.16 needs tf_keras and TF_USE_LEGACY_KERAS=1. Its ``extractor`` builds graph and weights
anew for every file; "model kept" calls its own functions with the graph left in memory, so that what is compared
is decoding, log-mel and network alone. Everybody has one core (the same one, in turns, clip by clip) and one thread;
medians are printed. In float32 the tags have to be the package's within 1e-3, or the exit code is 1; the SavedModel's
need not be, since it takes values from -1 to 1 alone, and loud MP3s decode to more.

Clips of up to 29.1 s: a longer song autotag cuts into windows of that length, and the package does not.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from benchmarks.machine import cpu_name
from serving.engines.runtimes import load_engine

PACKAGE: Final = "musicnn package: extractor"
KEPT: Final = "musicnn package, model kept"
ENGINES: Final = {
    "TensorFlow": ("tensorflow", "tensorflow"),
    "ONNX Runtime": ("onnxruntime", "onnxruntime"),
    "OpenVINO": ("openvino", "openvino"),
    "LiteRT": ("ai_edge_litert", "litert"),
}
"""Title -> module that must be installed, name in serving.engines.runtimes."""
ALIKE: Final = 1e-3
ONE_THREAD: Final = {name: "1" for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")}

Answer = Callable[[str], "tuple[list[str], list[float]]"]
"""Path of a clip -> tags, probabilities."""


@dataclass
class Row:
    """What one contender took for each call, and what it said of each clip."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    said: dict[str, dict[str, float]] = field(default_factory=dict)


# In a process of its own


def package_answer(wheel_folder: str, variant: str, kept: bool) -> Answer:
    """The package's extractor, or its parts with the graph left in memory."""
    sys.path.insert(0, wheel_folder)
    from musicnn import extractor  # type: ignore[import-not-found]

    if not kept:

        def answer(path: str) -> tuple[list[str], list[float]]:
            taggram, tags = extractor.extractor(path, model=variant, extract_features=False)
            return list(tags), taggram.mean(axis=0).tolist()

        return answer
    return _kept_answer(extractor, variant)


def _kept_answer(extractor: Any, variant: str) -> Answer:
    v1, config = extractor.tf.compat.v1, extractor.config
    tags = config.MTT_LABELS if variant.startswith("MTT") else config.MSD_LABELS
    patches = v1.placeholder(v1.float32, [None, 187, config.N_MELS])
    training = v1.placeholder(v1.bool)
    with v1.name_scope("model"):
        probabilities = v1.sigmoid(extractor.models.define_model(patches, training, variant, len(tags))[0])
    session = v1.Session()
    v1.train.Saver().restore(session, f"{Path(extractor.__file__).parent}/{variant}/")

    def answer(path: str) -> tuple[list[str], list[float]]:
        batch, _ = extractor.batch_data(path, 187, 187)
        taggram = session.run(probabilities, {patches: batch, training: False})
        return list(tags), taggram.mean(axis=0).tolist()

    return answer


def engine_answer(model_dir: str, engine: str) -> Answer:
    """autotag, as `autotag tag` does it."""
    from serving.tagging.sources import LocalModel
    from serving.tagging.tagger import Tagger

    tagger = Tagger(LocalModel(Path(model_dir), engine, threads=1), jobs=1)

    def answer(path: str) -> tuple[list[str], list[float]]:
        tagged = tagger.tag_file(path)
        return list(tagged.tags), tagged.probabilities.tolist()

    return answer


def work(kind: str, folder: str, name: str) -> None:
    """Answer paths from standard input, a JSON line each, until it ends."""
    out, sys.stdout = sys.stdout, io.StringIO()  # the package prints
    answer = engine_answer(folder, name) if kind == "engine" else package_answer(folder, name, kind == "kept")
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        tags, probabilities = answer(line.strip())
        taken = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps([*taken, dict(zip(tags, probabilities, strict=True))]), file=out, flush=True)


# The comparison


class Contender:
    """A worker's process, on one core."""

    def __init__(self, kind: str, folder: Path, name: str, core: int) -> None:
        call = [sys.executable, "-m", "benchmarks.pretrained", "--worker", kind, str(folder), name]
        legacy = {"TF_USE_LEGACY_KERAS": "1"} if kind != "engine" else {}
        self._process = subprocess.Popen(
            ["taskset", "-c", str(core), *call],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD, **legacy, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def ask(self, clip: str) -> tuple[float, float, dict[str, float]]:
        """Seconds on the wall, of CPU, and the tags of a clip."""
        to, of = self._streams()
        to.write(clip + "\n")
        to.flush()
        line = of.readline()
        if not line:
            raise RuntimeError(f"a worker ended with {self._process.wait()}: {self._process.args}")
        wall, cpu, said = json.loads(line)
        return wall, cpu, said

    def close(self) -> None:
        """End the process."""
        self._streams()[0].close()
        self._process.wait(timeout=60)

    def _streams(self) -> tuple[IO[str], IO[str]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        return self._process.stdin, self._process.stdout


@contextlib.contextmanager
def contenders(wheel: Path, variant: str, model_dir: Path, core: int) -> Iterator[dict[str, Contender]]:
    """Start all, with the wheel unpacked; the first answer of each is not measured."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        started = {
            PACKAGE: Contender("package", Path(folder), variant, core),
            KEPT: Contender("kept", Path(folder), variant, core),
        }
        for title, (module, engine) in ENGINES.items():
            if importlib.util.find_spec(module) is not None:
                precision = load_engine(model_dir, engine, threads=1).precision
                started[f"autotag, {title} {precision}"] = Contender("engine", model_dir, engine, core)
        for one in started.values():
            stack.callback(one.close)
        yield started


def measure(started: dict[str, Contender], clips: list[str], rounds: int) -> dict[str, Row]:
    """Ask all in turns, clip by clip."""
    rows = {name: Row() for name in started}
    for one in started.values():
        one.ask(clips[0])
    for _ in range(rounds):
        for clip in clips:
            for name, one in started.items():
                wall, cpu, said = one.ask(clip)
                rows[name].wall.append(wall)
                rows[name].cpu.append(cpu)
                rows[name].said[clip] = said
    return rows


def furthest(row: Row, other: Row) -> float:
    """The largest difference between two contenders' probabilities."""
    return max(abs(row.said[clip][tag] - value) for clip, said in other.said.items() for tag, value in said.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clips", nargs="*", help="MP3 files of up to 29.1 s")
    parser.add_argument("--model", default="musicnn-mtt", help="of `autotag pretrained`, from the musicnn package")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=min(os.sched_getaffinity(0)))
    parser.add_argument("--worker", nargs=3, metavar=("KIND", "FOLDER", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(*options.worker)
        return
    if not options.clips:
        parser.error("give clips to tag")
    from serving.pretrained.cache import weights_file
    from serving.pretrained.catalogue import find_trained
    from serving.pretrained.ready import ready_version

    model = find_trained(options.model)
    version = ready_version(options.model, print)
    clips = [str(Path(clip).resolve()) for clip in options.clips]
    with contenders(weights_file(model.files[0]), model.variant, version, options.core) as started:
        rows = measure(started, clips, options.rounds)
    print(f"{options.model}, MP3 bytes to tags, {len(clips)} clips, {options.rounds} rounds in turns, one core")
    print(f"{cpu_name()}, Python {platform.python_version()}\n")
    print("| | s a clip | CPU s a clip | times the extractor | times it with the model kept | furthest tag |")
    print("|---|---|---|---|---|---|")
    base, kept = statistics.median(rows[PACKAGE].wall), statistics.median(rows[KEPT].wall)
    for name, row in rows.items():
        wall, cpu = statistics.median(row.wall), statistics.median(row.cpu)
        apart = furthest(row, rows[PACKAGE])
        print(f"| {name} | {wall:.3f} | {cpu:.3f} | {base / wall:.2f} | {kept / wall:.2f} | {apart:.1e} |")
    held = [name for name in rows if name.endswith("float32") and "TensorFlow" not in name]
    wrong = [name for name in held if furthest(rows[name], rows[PACKAGE]) > ALIKE]
    if wrong:
        sys.exit(f"further than {ALIKE} from the package's tags: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
