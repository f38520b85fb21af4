"""Speed and memory of preprocessing, all on the same clips and in one run.

    python benchmarks/preprocessing.py --clips 400 --rounds 3
    python benchmarks/preprocessing.py --memory

(a) is the usual script: librosa.load, librosa.feature.melspectrogram, float lists in tf.train.Example, TFRecordWriter.
(b) is the bare loop: this project's functions in one process, without Beam. (c) is the job, ``autotag preprocess``, on
Beam's direct runner, from the annotations to the summary.

Each is a process of its own; imports and a first clip, for what is loaded lazily, come before the clock starts, but the
start of Beam and of its worker processes counts. Rounds are interleaved and each ratio is the median of its rounds', so
that a machine shared with others disturbs it little. Peak memory is the sum of the resident sets of the process and its
children (shared pages count in each).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import soundfile as sf
from rich.console import Console
from rich.table import Table

SAMPLE_RATE = 16_000
DISTINCT_CLIPS = 16
TAGS = ("guitar", "classical", "slow", "techno", "strings")


def music(seed: int) -> np.ndarray:
    """29.1 s of plucked chords, a bass and noisy beats: what an MP3 decoder finds as hard as music."""
    random = np.random.default_rng(seed)
    time_axis = np.arange(round(29.1 * SAMPLE_RATE)) / SAMPLE_RATE
    beat = random.uniform(0.3, 0.7)
    samples = np.zeros(len(time_axis))
    for start in np.arange(0, 29, beat):
        first = round(start * SAMPLE_RATE)
        heard = slice(first, first + 2 * SAMPLE_RATE)
        at = time_axis[heard] - start
        notes = 110 * 2 ** (random.choice([0, 3, 5, 7, 10, 12, 15, 19], 3) / 12)
        for note in notes:
            for harmonic in range(1, 8):
                samples[heard] += np.exp(-3 * at * harmonic) * np.sin(2 * np.pi * note * harmonic * at) / harmonic
        samples[heard] += np.exp(-40 * at) * random.standard_normal(len(at))
    return (0.5 * samples / np.abs(samples).max()).astype(np.float32)


def make_corpus(folder: Path, clips: int) -> Path:
    """Write clips in MagnaTagATune's layout, copies of 16 different ones; returns their annotations' path."""
    masters = []
    for seed in range(DISTINCT_CLIPS):
        master = folder / f"master-{seed}.mp3"
        master.parent.mkdir(parents=True, exist_ok=True)
        sf.write(master, music(seed), SAMPLE_RATE, format="MP3", bitrate_mode="CONSTANT", compression_level=0.9)
        masters.append(master.read_bytes())
        master.unlink()
    lines = ["\t".join(f'"{cell}"' for cell in ("clip_id", *TAGS, "mp3_path"))]
    for number in range(clips):
        path = f"{number % 16:x}/artist-album-{number:05d}-title-0-29.mp3"
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(masters[number % DISTINCT_CLIPS])
        cells = (str(number), *(str(int(number % len(TAGS) == tag)) for tag in range(len(TAGS))), path)
        lines.append("\t".join(f'"{cell}"' for cell in cells))
    annotations = folder / "annotations_final.csv"
    annotations.write_text("\n".join(lines) + "\n")
    return annotations


def usual_script(corpus: Path, out: Path) -> Callable[[list[Path]], None]:
    import librosa
    import tensorflow as tf

    def floats(values: np.ndarray) -> tf.train.Feature:
        return tf.train.Feature(float_list=tf.train.FloatList(value=values.ravel()))

    def run(paths: list[Path]) -> None:
        with tf.io.TFRecordWriter(str(out / "clips.tfrecord")) as writer:
            for path in paths:
                samples, _ = librosa.load(path, sr=SAMPLE_RATE)
                samples = librosa.util.fix_length(samples, size=465_600)
                mel = librosa.feature.melspectrogram(y=samples, sr=SAMPLE_RATE, n_fft=2048, hop_length=787, n_mels=128)
                mel = librosa.power_to_db(mel)
                features = {"waveform": floats(samples), "log_mel": floats(mel)}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())

    return run


def bare_loop(corpus: Path, out: Path) -> Callable[[list[Path]], None]:
    from preprocessing.examples import clip_example, write_record

    def run(paths: list[Path]) -> None:
        with open(out / "clips.tfrecord", "wb", buffering=1 << 20) as file:
            for path in paths:
                write_record(file, clip_example(path.read_bytes(), path.stem, path.stem, ["guitar"]))

    return run


def beam_job(workers: int) -> Callable[[Path, Path], Callable[[list[Path]], None]]:
    def prepare(corpus: Path, out: Path) -> Callable[[list[Path]], None]:
        from datasets.reading import read_manifest
        from preprocessing.beam.settings import BeamSettings
        from preprocessing.examples import clip_example
        from preprocessing.job import run_job
        from preprocessing.settings import PreprocessSettings

        def run(paths: list[Path]) -> None:
            if len(paths) == 1:
                clip_example(paths[0].read_bytes(), "0", "0", [])
                return
            settings = PreprocessSettings(n_tags=len(TAGS), shard_clips=64)
            manifest = read_manifest(str(corpus), str(corpus / "annotations_final.csv"), settings)
            options = BeamSettings(workers=workers).arguments()
            summary = run_job(manifest, str(corpus), str(out), settings, options, lambda done: None)
            assert summary["examples"] == len(paths)

        return run

    return prepare


WAYS = {
    "a": ("(a) the usual script", usual_script, 1),
    "b": ("(b) bare loop, no Beam", bare_loop, 1),
    "c1": ("(c) Beam job, 1 worker", beam_job(1), 1),
    "c2": ("(c) Beam job, 2 workers", beam_job(2), 2),
}


def measure_here(way: str, corpus: Path, out: Path) -> None:
    """Run one way in this process and print its figures as JSON."""
    paths = sorted(corpus.glob("?/*.mp3"))
    out.mkdir(parents=True)
    run = WAYS[way][1](corpus, out)
    run(paths[:1])
    cpu = cpu_seconds()
    start = time.perf_counter()
    run(paths)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "cpu": cpu_seconds() - cpu, "clips": len(paths)}))


def cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(way: str, corpus: Path, folder: Path) -> dict[str, float]:
    """Run one way in a process of its own; its figures, with the peak of its memory in bytes."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    call = [
        sys.executable,
        "-m",
        "benchmarks.preprocessing",
        "--way",
        way,
        "--corpus",
        str(corpus.resolve()),
        "--out",
        str(out.resolve()),
    ]
    root = Path(__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONPATH": str(root), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    peak = 0
    with tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(
            call, stdout=subprocess.PIPE, stderr=stderr, env=environment, cwd=root, text=True
        ) as process:
            tree = psutil.Process(process.pid)
            while process.poll() is None:
                peak = max(peak, resident(tree))
                time.sleep(0.05)
            printed = process.stdout.read() if process.stdout else ""
        if process.returncode:
            stderr.seek(0)
            raise SystemExit(f"{WAYS[way][0]} failed:\n{stderr.read()[-3000:]}")
    shutil.rmtree(out)
    return {**json.loads(printed.splitlines()[-1]), "peak": peak}


def resident(tree: psutil.Process) -> int:
    total = 0
    for process in (tree, *children(tree)):
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def children(tree: psutil.Process) -> list[psutil.Process]:
    try:
        return tree.children(recursive=True)
    except psutil.Error:
        return []


def speed(corpus: Path, folder: Path, rounds: int, console: Console) -> None:
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS:
            runs[way].append(measure(way, corpus, folder))
            console.print(f"round {number + 1} {WAYS[way][0]}: {runs[way][-1]['seconds']:.1f} s", style="dim")
    rates = {way: [run["clips"] / run["seconds"] for run in runs[way]] for way in WAYS}
    table = Table(title=f"preprocessing of {runs['a'][0]['clips']} clips, median of {rounds} rounds")
    for column in (
        "",
        "clips/s",
        "clips/s per core",
        "CPU ms per clip",
        "times (a)",
        "of (b) per core",
        "peak memory MB",
    ):
        table.add_column(column, justify="right" if column else "left", no_wrap=not column)
    for way, (name, _, cores) in WAYS.items():
        to_script = statistics.median(own / script for own, script in zip(rates[way], rates["a"], strict=True))
        to_loop = statistics.median(own / loop for own, loop in zip(rates[way], rates["b"], strict=True)) / cores
        rate = statistics.median(rates[way])
        cpu = statistics.median(run["cpu"] / run["clips"] for run in runs[way])
        peak = max(run["peak"] for run in runs[way])
        table.add_row(
            name,
            f"{rate:.1f}",
            f"{rate / cores:.1f}",
            f"{1000 * cpu:.1f}",
            f"{to_script:.2f}",
            f"{to_loop:.2f}",
            f"{peak / 1e6:.0f}",
        )
    console.print(table)


def memory(folder: Path, counts: list[int], console: Console) -> None:
    table = Table(title="peak memory of the Beam job")
    for column in ("clips", "workers", "clips/s", "peak memory MB"):
        table.add_column(column, justify="right")
    for count in counts:
        corpus = folder / f"clips-{count}"
        make_corpus(corpus, count)
        for way in ("c1", "c2"):
            run = measure(way, corpus, folder)
            rate = run["clips"] / run["seconds"]
            table.add_row(f"{count}", f"{WAYS[way][2]}", f"{rate:.1f}", f"{run['peak'] / 1e6:.0f}")
            console.print(f"{count} clips, {WAYS[way][0]}: {run['peak'] / 1e6:.0f} MB", style="dim")
        shutil.rmtree(corpus)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400, help="clips of the comparison [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is run [%(default)s]")
    parser.add_argument(
        "--memory", action="store_true", help="measure peak memory at 500 and 5,000 clips (6 GB of disk)"
    )
    parser.add_argument("--memory-clips", type=int, nargs="+", default=[500, 5000], help="[500 5000]")
    parser.add_argument("--out", type=Path, help="folder for the files, removed after [a temporary one]")
    parser.add_argument("--way", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measure_here(arguments.way, arguments.corpus, arguments.out)
        return
    console = Console()
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out, prefix="benchmark-") as name:
        folder = Path(name)
        if arguments.memory:
            memory(folder, arguments.memory_clips, console)
        else:
            make_corpus(folder / "clips", arguments.clips)
            speed(folder / "clips", folder, arguments.rounds, console)
    console.print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
