"""Seconds of a training step and of inference for each network and dtype policy, on the machine this runs on.

    python -m benchmarks.networks [--batch 16] [--rounds 5] [--networks mel_1d,mel_2d] [--policies float32]

All variants take turns in every round, so that a machine's other load falls on all alike; the median is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np

from benchmarks.machine import cpu_name
from models.branches import BRANCHES, INPUT_SHAPES
from models.combiner import build_combiner
from preprocessing.constants import N_TAGS

POLICIES = ("float32", "mixed_bfloat16")


@dataclass
class Variant:
    """One compiled network with a batch to feed it, and the seconds measured so far."""

    network: str
    policy: str
    model: keras.Model
    clips: np.ndarray
    labels: np.ndarray
    train: list[float] = field(default_factory=list)
    infer: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        """Time one training step and one prediction."""
        self.train.append(seconds(lambda: self.model.train_on_batch(self.clips, self.labels)))
        self.infer.append(seconds(lambda: self.model.predict_on_batch(self.clips)))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def make_variant(network: str, policy: str, batch: int) -> Variant:
    if network == "combiner":
        model, shape = build_combiner(len(BRANCHES), dtype=policy), (len(BRANCHES) * N_TAGS,)
    else:
        branch = BRANCHES[network]
        model, shape = branch.build(dtype=policy), INPUT_SHAPES[branch.input]
    model.compile(optimizer="adam", loss="binary_crossentropy", jit_compile=False)
    rng = np.random.default_rng(0)
    clips = rng.standard_normal((batch, *shape)).astype(np.float32)
    labels = (rng.random((batch, N_TAGS)) < 0.05).astype(np.float32)
    return Variant(network, policy, model, clips, labels)


def measure(networks: list[str], policies: list[str], batch: int, rounds: int) -> list[Variant]:
    variants = [make_variant(network, policy, batch) for network in networks for policy in policies]
    for _ in range(rounds + 1):  # the first turn traces the graphs
        for variant in variants:
            variant.take_turn()
    return variants


def table(variants: list[Variant], batch: int) -> str:
    rows = [
        f"| {v.network} | {v.policy} | {statistics.median(v.train[1:]):.3f} | {statistics.median(v.infer[1:]):.3f} |"
        for v in variants
    ]
    head = [
        f"| network | policy | training step of {batch} clips, s | inference of {batch} clips, s |",
        "|---|---|---|---|",
    ]
    return "\n".join(head + rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", default=",".join([*BRANCHES, "combiner"]))
    parser.add_argument("--policies", default=",".join(POLICIES))
    args = parser.parse_args()
    variants = measure(args.networks.split(","), args.policies.split(","), args.batch, args.rounds)
    print(
        f"{cpu_name()}; Keras {keras.__version__} on {keras.backend.backend()}, jit_compile=False, "
        f"median of {args.rounds} rounds"
    )
    print(table(variants, args.batch))


if __name__ == "__main__":
    main()
