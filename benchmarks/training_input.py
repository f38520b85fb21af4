"""Clips a second of the training data's reader against those of the training step, branch by branch.

    python -m benchmarks.training_input [--root demo-run] [--seconds 10] [--batch 16]

The reader keeps the device busy where it is faster than the step. Reads what a finished run left (the newest Transform
and the newest examples under ROOT), trains on copies of the networks and keeps nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from components.labels import HeadSettings
from components.reader import transform_facts
from components.training import Task, TrainingSettings
from models.outputs import HeadsLoss
from models.registry import NETWORKS, find_network
from preprocessing.clip_format import PAPER_CLIP


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("demo-run"))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tags", type=int, default=50, help="of the run")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    arguments = parser.parse_args()
    raw = newest(arguments.root, "ClipExampleGen", "examples") / "Split-train" / "*"
    transformed = newest(arguments.root, "Transform", "transformed_examples") / "Split-train" / "*"
    graph = newest(arguments.root, "Transform", "transform_graph")
    table = Table(title=f"training input, batch {arguments.batch}, {os.cpu_count()} {platform.machine()} cores")
    for column in ("network", "precision", "reader, clips/s", "augmented", "step, clips/s", "reader / step"):
        table.add_column(column, justify="left" if column in ("network", "precision") else "right")
    facts = transform_facts(str(graph), [HeadSettings(top=arguments.tags)])
    for name in arguments.networks.split(","):
        network = find_network(name)
        patterns = [str(transformed if network.reads_stored_log_mel else raw)]
        settings = TrainingSettings(batch_size=arguments.batch)
        task = Task(name, network, settings, PAPER_CLIP, facts, facts.normalisation(network))
        changed = replace(task, settings=replace(settings, time_shift=True, gain_db=3.0))
        plain = task.training_dataset(patterns)(1)
        read = clips_per_second(plain, lambda batch: None, arguments.seconds)
        read_changed = clips_per_second(changed.training_dataset(patterns)(1), lambda batch: None, arguments.seconds)
        first = next(iter(plain))
        model = task.with_front(task.build())
        gpu = bool(tf.config.list_physical_devices("GPU"))
        model.compile("adam", HeadsLoss(facts.heads), jit_compile=gpu)

        def train(batch: dict[str, tf.Tensor], model: keras.Model = model) -> None:
            model.train_on_batch(batch["inputs"], batch["labels"])

        step = clips_per_second(tf.data.Dataset.from_tensors(first), train, arguments.seconds)
        figures = (f"{read:.0f}", f"{read_changed:.0f}", f"{step:.1f}", f"{min(read, read_changed) / step:.1f}")
        table.add_row(name, task.precision, *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
