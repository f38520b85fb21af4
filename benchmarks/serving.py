"""Speed of a pushed model: per engine, per batch, per combination of networks, and of a server that is given.

    python -m benchmarks.serving [--model demo-run/pushed] [--quick]
    python -m benchmarks.serving --server-only --server 'batching=HOST:PORT' --rest HOST:PORT --audio FILE

Engines run in processes of their own and take turns, so that a machine's other load falls on all alike; medians are
printed, on the wall and in CPU time, and each as a ratio to TensorFlow in float32 in the same rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.machine import cpu_name
from preprocessing.errors import AutotagError
from serving.engines.measurement import Measured, Worker, take_turns
from serving.model_info import read_model_info
from serving.model_versions import find_model

BATCHES = (1, 8, 32)
CLIENTS = (1, 8, 32)
BASE = "TensorFlow float32"
ENGINES = {
    "TensorFlow bfloat16": ("tensorflow", "tensorflow", True),
    "ONNX Runtime float32": ("onnxruntime", "onnxruntime", False),
    "OpenVINO": ("openvino", "openvino", False),
    "LiteRT int8": ("ai_edge_litert", "litert", False),
}
"""Row -> module that must be installed, name in serving.engines.runtimes, whether TensorFlow multiplies in bfloat16."""
MOST_NETWORKS = 3
"""Of a model whose networks are measured in all combinations."""


def measured_engines(model_dir: Path, threads: int) -> list[Measured]:
    clip = read_model_info(model_dir).clip
    rows = [Measured(BASE, str(model_dir), clip, "tensorflow", threads)]
    for name, (module, engine, bfloat16) in ENGINES.items():
        if importlib.util.find_spec(module) is not None:
            rows.append(Measured(name, str(model_dir), clip, engine, threads, bfloat16))
    return rows


@contextlib.contextmanager
def working(measured: list[Measured]) -> Iterator[list[Worker]]:
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(one)) for one in measured]
        for worker in workers:
            worker.call(clips=1)
        yield workers


def print_batches(model_dir: Path, threads: int, rounds: int) -> None:
    print(f"\nClips (29.1 s) per second of the SavedModel, TensorFlow float32, {threads} threads, {rounds} rounds\n")
    print("| batch | clips/s | s per clip | CPU s per clip |\n|---|---|---|---|")
    with working(measured_engines(model_dir, threads)[:1]) as workers:
        for batch in BATCHES:
            taken = take_turns(workers, rounds, clips=batch)[BASE]
            print(f"| {batch} | {batch / taken.wall:.1f} | {taken.wall / batch:.4f} | {taken.cpu / batch:.4f} |")


def print_engines(model_dir: Path, threads: int, rounds: int, batch: int) -> None:
    print(f"\nEngines, batch {batch}, {threads} threads, {rounds} rounds in turns\n")
    print(
        "| engine | clips/s | s per clip | CPU s per clip | speed to TF float32 | in CPU time |\n"
        "|---|---|---|---|---|---|"
    )
    with working(measured_engines(model_dir, threads)) as workers:
        rows = take_turns(workers, rounds, clips=batch)
    base = rows[BASE]
    for name, row in rows.items():
        print(
            f"| {name} | {batch / row.wall:.1f} | {row.wall / batch:.4f} | {row.cpu / batch:.4f} "
            f"| {base.wall / row.wall:.2f} | {base.cpu / row.cpu:.2f} |"
        )
    for name in ENGINES.keys() - rows.keys():
        print(f"| {name} | not measured: not installed | | | | |")


def combinations(networks: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """Each network, and all combinations of a few, or all of many together."""
    sizes = range(1, len(networks) + 1) if len(networks) <= MOST_NETWORKS else (1, len(networks))
    for size in sizes:
        yield from itertools.combinations(networks, size)


def print_combinations(model_dir: Path, threads: int, rounds: int, batch: int) -> None:
    print(
        f"\nSeconds (and CPU seconds) for 1,000 clips per combination of networks, "
        f"batch {batch}, {threads} threads, {rounds} rounds\n"
    )
    columns = [BASE, *ENGINES]
    print(f"| networks | {' | '.join(columns)} | least CPU to TF float32 |\n|{'---|' * (len(columns) + 2)}")
    with tempfile.TemporaryDirectory() as scratch:
        for networks in combinations([member.network for member in read_model_info(model_dir).members]):
            label = " + ".join(networks)
            untrained = Path(scratch) / label
            export_untrained(untrained, networks)
            with working(measured_engines(untrained, threads)) as workers:
                rows = take_turns(workers, rounds, clips=batch)
            each = 1000 / batch
            cells = [
                f"{each * rows[name].wall:.1f} ({each * rows[name].cpu:.1f})" if name in rows else "not installed"
                for name in columns
            ]
            gain = rows[BASE].cpu / min(row.cpu for row in rows.values())
            print(f"| {label} | {' | '.join(cells)} | {gain:.2f} |", flush=True)


def export_untrained(model_dir: Path, networks: tuple[str, ...]) -> None:
    """Write a model of untrained networks with the files of all engines: weights do not change the speed."""
    from models.combiner import build_combiner
    from models.heads import Heads
    from models.outputs import with_heads
    from models.registry import find_network
    from preprocessing.constants import N_TAGS
    from serving.engines.engine_files import engine_files
    from serving.graph.ensemble import Ensemble, Member
    from serving.graph.export import export_ensemble
    from serving.model_info import DataInfo, Normalisation

    heads, members = Heads.of_tags(N_TAGS), []
    for name in networks:
        network = find_network(name)
        normalisation = Normalisation(-30.0, 20.0) if network.normalised else None
        model = with_heads(network.build(N_TAGS), heads)
        members.append(Member(name, network, model, network.score_windows, normalisation))
    combiner = build_combiner("dense", len(members), heads) if len(members) > 1 else None
    ensemble = Ensemble(members, combiner, heads)
    tags = [f"tag {number}" for number in range(N_TAGS)]
    info = export_ensemble(model_dir, ensemble, tags, [0.5] * N_TAGS, DataInfo("none", "none", {}, {}, {}), {})
    for name, content in engine_files(ensemble, info).items():
        (model_dir / name).parent.mkdir(exist_ok=True)
        (model_dir / name).write_bytes(content)


def print_servers(servers: list[str], rests: list[str], audio: Path | None, requests: int) -> None:
    print("\nLatency of a server, milliseconds, by number of clients at a time\n")
    if not servers and not rests:
        print("not measured: no server given (--server HOST:PORT, --rest HOST:PORT)")
        return
    if audio is None:
        raise AutotagError("give the file that the server shall tag with --audio FILE")
    print("| server | transport | clients | p50 | p95 | p99 | clips/s |\n|---|---|---|---|---|---|---|")
    for transport, given in [*(("grpc", one) for one in servers), *(("rest", one) for one in rests)]:
        label, _, address = given.rpartition("=")
        for clients in CLIENTS:
            seconds, per_second = server_seconds(address, transport, audio, clients, requests)
            cuts = statistics.quantiles(seconds, n=100, method="inclusive")
            shown = " | ".join(f"{1000 * cuts[percent - 1]:.0f}" for percent in (50, 95, 99))
            print(f"| {label or address} | {transport} | {clients} | {shown} | {per_second:.1f} |", flush=True)


def server_seconds(address: str, transport: str, audio: Path, clients: int, requests: int) -> tuple[list[float], float]:
    """Seconds of each of ``clients * requests`` requests with one clip, and clips per second."""
    from preprocessing.audio.loading import load_clip
    from preprocessing.audio.samples import fit_clip, to_pcm
    from serving.client import TagClient

    pcm = to_pcm(fit_clip(load_clip(audio.read_bytes(), str(audio))[0])).tobytes()

    def one_client(_: int) -> list[float]:
        taken = []
        with TagClient(address, transport=transport) as client:
            client.tag_pcm([pcm])
            for _ in range(requests):
                start = time.perf_counter()
                client.tag_pcm([pcm])
                taken.append(time.perf_counter() - start)
        return taken

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = [second for taken in pool.map(one_client, range(clients)) for second in taken]
    return seconds, len(seconds) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("demo-run/pushed"), help="a pushed model with engines/")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three rounds, and of the combinations none")
    address = {"action": "append", "default": [], "metavar": "[LABEL=]HOST:PORT"}
    parser.add_argument(
        "--server", help="gRPC address of a running server; once for each, e.g. batching=... plain=...", **address
    )
    parser.add_argument("--rest", help="REST address, likewise", **address)
    parser.add_argument("--audio", type=Path, help="file that the server tags")
    parser.add_argument("--requests", type=int, default=30, help="of each client")
    parser.add_argument("--server-only", action="store_true", help="measure nothing else")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else arguments.rounds
    print(f"{platform.machine()}, {cpu_name()}, Python {platform.python_version()}")
    if not arguments.server_only:
        model_dir = find_model(arguments.model)
        print_batches(model_dir, arguments.threads, rounds)
        for batch in (1, 8):
            print_engines(model_dir, arguments.threads, rounds, batch)
        if not arguments.quick:
            print_combinations(model_dir, arguments.threads, max(3, rounds // 2), 8)
    print_servers(arguments.server, arguments.rest, arguments.audio, arguments.requests)


if __name__ == "__main__":
    main()
