"""Clips a second of training, network by network: the reader, the training step, and plain Keras in float32.

    python -m benchmarks.training_input [--root demo-run] [--networks mel_1d,musicnn] [--seconds 5] [--batch 16]

The reader keeps the device busy where it is faster than the step; of a network that hears less than a clip it gives a
random window of each. The step is that of a Trainer (precision of this device, loss over the heads); *plain* is the
same network in float32 with Keras' own loss. Both take turns, batch by batch; the median of each is told. Reads what a
finished run left (the newest Transform and the newest examples under ROOT), trains on copies of the networks and keeps
nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from benchmarks.machine import cpu_name
from components.labels import HeadSettings
from components.network_task import NetworkTask
from components.reader import transform_facts
from components.training_settings import TrainingSettings
from models.outputs import HeadsLoss
from models.registry import NETWORKS, find_network
from preprocessing.clip_format import PAPER_CLIP

COLUMNS = "network", "hears, s", "precision", "reader", "augmented", "step", "plain", "step / plain", "reader / step"


def newest(root: Path, node: str, key: str) -> Path:
    folders = sorted((root / "artifacts" / node / key).iterdir(), key=lambda path: int(path.name))
    return folders[-1]


def clips_per_second(batches: tf.data.Dataset, use: Callable[[dict[str, tf.Tensor]], object], seconds: float) -> float:
    """Go through batches, again and again, for a while; the first one does not count."""
    clips, started = 0, None
    for batch in batches.repeat():
        use(batch)
        if started is None:
            started = time.perf_counter()
            continue
        clips += len(batch["labels"])
        if time.perf_counter() - started > seconds and clips:
            break
    return clips / (time.perf_counter() - started)


def step_of(model: keras.Model, loss: keras.losses.Loss | str, batch: dict[str, tf.Tensor]) -> Callable[[], object]:
    """Compile a network and return a training step on one batch; the graph is traced already."""
    model.compile("adam", loss, jit_compile=bool(tf.config.list_physical_devices("GPU")))

    def step() -> object:
        return model.train_on_batch(batch["inputs"], batch["labels"])

    step()
    return step


def in_turns(steps: Sequence[Callable[[], object]], clips: int, seconds: float) -> list[float]:
    """Clips a second of each, by the median of its turns: three at least, and for ``seconds`` of each."""
    taken: list[list[float]] = [[] for _ in steps]
    while len(taken[0]) < 3 or sum(map(sum, taken)) < seconds * len(steps):
        for step, times in zip(steps, taken, strict=True):
            began = time.perf_counter()
            step()
            times.append(time.perf_counter() - began)
    return [clips / statistics.median(times) for times in taken]


def row_of(arguments: argparse.Namespace, name: str) -> list[str]:
    """One row of the table: a network's name, what it hears, how it is trained, and its figures."""
    network = find_network(name)
    examples = ("Transform", "transformed_examples") if network.reads_stored_log_mel else ("ClipExampleGen", "examples")
    patterns = [str(newest(arguments.root, *examples) / "Split-train" / "*")]
    graph = newest(arguments.root, "Transform", "transform_graph")
    facts = transform_facts(str(graph), [HeadSettings(top=arguments.tags)])
    settings = TrainingSettings(batch_size=arguments.batch)
    task = NetworkTask(name, network, settings, PAPER_CLIP, facts, facts.normalisation(network))
    return [
        f"`{name}`",
        f"{network.window_seconds:.1f}",
        task.precision,
        *figures_of(task, patterns, arguments.seconds),
    ]


def figures_of(task: NetworkTask, patterns: list[str], seconds: float) -> list[str]:
    """Clips a second of reader, reader with augmentation, step and plain step, and the ratios of COLUMNS."""
    changed = replace(task, settings=task.settings.model_copy(update={"time_shift": True, "gain_db": 3.0}))
    plain = replace(task, settings=task.settings.model_copy(update={"precision": "float32"}))
    batches = task.training_dataset(patterns)(1)
    read = clips_per_second(batches, lambda batch: None, seconds)
    read_changed = clips_per_second(changed.training_dataset(patterns)(1), lambda batch: None, seconds)
    first = next(iter(batches))
    steps = [
        step_of(task.with_front(task.build()), HeadsLoss(task.heads), first),
        step_of(plain.with_front(plain.build()), "binary_crossentropy", first),
    ]
    step, step_plain = in_turns(steps, len(first["labels"]), seconds)
    slowest = min(read, read_changed)
    return [
        f"{read:.0f}",
        f"{read_changed:.0f}",
        f"{step:.3g}",
        f"{step_plain:.3g}",
        f"{step / step_plain:.2f}",
        f"{slowest / step:.1f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("demo-run"))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each thing measured")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tags", type=int, default=50, help="of the run")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    arguments = parser.parse_args()
    print(f"Clips/s, batches of {arguments.batch}; {cpu_name()}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    # TensorFlow keeps what a network's graphs took until its process ends.
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        for row in pool.imap(partial(row_of, arguments), arguments.networks.split(",")):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
