"""Cost of every network of the registry, on the machine this runs on: a Markdown table.

    python -m benchmarks.networks [--networks mel_1d,musicnn] [--clips 2]
    python -m benchmarks.networks --training [--networks mel_1d] [--batch 16] [--rounds 5] [--policies float32]

The first is of what is served: trainable weights beside what is published of them, size of the LiteRT file with int8
weights (features included), and seconds of one core for 1,000 clips of 29.1 s with that file, from the waveform to the
mean over the network's own windows. It is CPU time of one thread, so that a machine's other load counts for little.

The second is of training: seconds of a training step and of inference on a batch of windows, for each dtype policy. All
variants take turns in every round; the median is printed.
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
from components.network_cost import cpu_seconds_of_a_clip, litert_bytes
from models.heads import Heads
from models.hearing import Hearing
from models.outputs import HeadsLoss, with_heads
from models.registry import NETWORKS, Network, find_network
from preprocessing.clip_format import PAPER_CLIP
from serving.graph.ensemble import Member
from serving.model_info import Normalisation

POLICIES = ("float32", "mixed_bfloat16")


def trainable(network: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_weights)


def int8_file(network: Network) -> bytes:
    """The LiteRT file of an untrained model of this network alone: weights do not change the speed."""
    heads = Heads.of_tags(network.outputs)
    normalisation = Normalisation(-30.0, 20.0) if network.normalised else None
    model = with_heads(network.build(dtype="float32"), heads)
    member = Member(network.name, network, model, network.score_windows, normalisation)
    return litert_bytes(member, heads, PAPER_CLIP)


def print_served(networks: list[Network], clips: int) -> None:
    print("| network | hears, s | windows | trainable | published | LiteRT int8, MB | 1,000 clips, s |")
    print(f"|{'---|' * 7}", flush=True)
    for network in networks:
        content = int8_file(network)
        windows = Hearing.of(network, PAPER_CLIP).windows
        published = "" if network.published_parameters is None else f"{network.published_parameters:,}"
        seconds = 1000 * cpu_seconds_of_a_clip(content, PAPER_CLIP, clips)
        print(
            f"| `{network.name}` | {network.window_seconds:.1f} | {windows} | {trainable(network.build()):,} | "
            f"{published} | {len(content) / 1e6:.1f} | {seconds:.3g} |",
            flush=True,
        )
        keras.utils.clear_session()


@dataclass
class Variant:
    """One compiled network with a batch to feed it, and the seconds measured so far."""

    network: str
    policy: str
    model: keras.Model
    windows: np.ndarray
    labels: np.ndarray
    train: list[float] = field(default_factory=list)
    infer: list[float] = field(default_factory=list)

    def take_turn(self) -> None:
        """Time one training step and one prediction."""
        self.train.append(seconds_of(lambda: self.model.train_on_batch(self.windows, self.labels)))
        self.infer.append(seconds_of(lambda: self.model.predict_on_batch(self.windows)))


def seconds_of(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def make_variant(network: Network, policy: str, batch: int) -> Variant:
    heads = Heads.of_tags(network.outputs)
    model = with_heads(network.build(dtype=policy), heads)
    model.compile(optimizer="adam", loss=HeadsLoss(heads), jit_compile=False)
    rng = np.random.default_rng(0)
    windows = rng.standard_normal((batch, *network.input_shape)).astype(np.float32)
    labels = (rng.random((batch, heads.size)) < 0.05).astype(np.float32)
    return Variant(network.name, policy, model, windows, labels)


def print_training(networks: list[Network], policies: list[str], batch: int, rounds: int) -> None:
    variants = [make_variant(network, policy, batch) for network in networks for policy in policies]
    for _ in range(rounds + 1):  # the first turn traces the graphs
        for variant in variants:
            variant.take_turn()
    print(f"| network | policy | training step of {batch} windows, s | inference of {batch} windows, s |")
    print("|---|---|---|---|")
    for variant in variants:
        train, infer = (statistics.median(measured[1:]) for measured in (variant.train, variant.infer))
        print(f"| {variant.network} | {variant.policy} | {train:.3f} | {infer:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--policies", default=",".join(POLICIES))
    args = parser.parse_args()
    networks = [find_network(name) for name in args.networks.split(",")]
    print(f"{cpu_name()}; Keras {keras.__version__} on {keras.backend.backend()}\n")
    if args.training:
        print_training(networks, args.policies.split(","), args.batch, args.rounds)
    else:
        print_served(networks, args.clips)


if __name__ == "__main__":
    main()
