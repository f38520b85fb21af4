"""How preprocessing grows with workers and with clips: Beam's runners beside plain processes, all in one run.

    python -m benchmarks.scaling
    python -m benchmarks.scaling --clips 500 1000 --rounds 3 --ways control-2 flink-1 flink-2

Control is the same function on the same shards in plain processes, without Beam: what a runner could reach at best.
Each measurement is a process of its own; imports come before the clock starts, the start of the job and of its workers
counts, the manifest (the clips' checksums) does not. From each way's times at the different numbers of clips a straight
line gives what every job costs (start) and how fast clips go after that (clips/s), with how well the line fits (R2: 1
is linear). Where it fits badly (below 0.95) its rate is no result, and no ratio is made of it; where the control itself
does not grow with its processes, the machine had no cores to spare, and what is compared with it is marked. Peak memory
is the sum of resident sets of all processes of a way, Flink's own included.

Flink needs Java and Beam's job server jar in Beam's cache; without them its rows say so. The cluster is started here by
deploy/flink/cluster.py with as many TaskManagers as workers; FLINK_HOME names a Flink that is unpacked already.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from apache_beam.utils.subprocess_server import pick_port
from rich.console import Console
from rich.table import Table

from benchmarks.preprocessing import TAGS, children, make_corpus, resident
from datasets.reading import read_manifest
from preprocessing.beam.options import parse_options
from preprocessing.beam.requirements import check_requirements
from preprocessing.beam.settings import BeamSettings
from preprocessing.errors import BadInputError
from preprocessing.job import run_job
from preprocessing.manifest import Manifest
from preprocessing.settings import PreprocessSettings
from preprocessing.shards import RECORDS_FOLDER, write_shard

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = PreprocessSettings(n_tags=len(TAGS), shard_clips=25)
LEAST_FIT = 0.95
"""R2 from which a line's rate is a result."""
LEAST_GROWTH = 0.75
"""Of the number of its processes, that the control's rate is at least of its rate with one."""
WAYS = ("control-1", "control-2", "direct-1", "direct-2", "flink-1", "flink-2")


@dataclass(frozen=True)
class Run:
    """One measurement."""

    clips: int
    seconds: float
    peak: int


@dataclass(frozen=True)
class Cluster:
    """A Flink cluster on this machine."""

    folder: Path
    master: str

    def processes(self) -> list[psutil.Process]:
        """Its JobManager and TaskManagers."""
        return [psutil.Process(pid) for pid in json.loads((self.folder / "processes.json").read_text()).values()]

    def wait_for_workers(self) -> None:
        """Wait until the Beam workers of the job before are gone, which would be counted as the next one's."""
        deadline = time.monotonic() + 120
        while any(map(children, self.processes())) and time.monotonic() < deadline:
            time.sleep(0.2)


def beam_settings(way: str, master: str, worker: str) -> BeamSettings:
    runner, _, workers = way.partition("-")
    if runner == "direct":
        return BeamSettings(workers=int(workers))
    return BeamSettings("flink", flink_master=master, parallelism=int(workers), worker_command=worker)


def control(manifest: Manifest, corpus: str, out: str, workers: int) -> None:
    """Write all shards in plain processes, each with every n-th of them."""
    shards = sorted(manifest.shards(), key=lambda shard: -len(shard.clips))
    parts = [shards[first::workers] for first in range(workers)]
    if workers == 1:
        control_part(parts[0], corpus, out)
        return
    processes = [multiprocessing.Process(target=control_part, args=(part, corpus, out)) for part in parts]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"control ended with {process.exitcode}")


def control_part(shards: list, corpus: str, out: str) -> None:
    for shard in shards:
        write_shard(shard, corpus, out)


def measure_here(way: str, corpus: Path, out: Path, master: str, worker: str) -> None:
    """Run one way in this process and print its seconds."""
    manifest = Manifest.from_json((corpus / "manifest.json").read_text())
    (out / RECORDS_FOLDER).mkdir(parents=True)
    start = time.perf_counter()
    if way.startswith("control"):
        control(manifest, str(corpus), str(out), int(way[-1]))
    else:
        summary = run_job(manifest, str(corpus), str(out), SETTINGS, beam_settings(way, master, worker).arguments())
        assert summary["examples"] == len(manifest.clips)
    print(json.dumps({"seconds": time.perf_counter() - start}))


def measure(way: str, corpus: Path, folder: Path, cluster: Cluster | None) -> Run:
    """Run one way in a process of its own; memory is looked at twenty times a second."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    call = [sys.executable, "-m", "benchmarks.scaling", "--way", way, "--corpus", str(corpus), "--out", str(out)]
    watched: list[psutil.Process] = []
    if cluster and way.startswith("flink"):
        call += ["--master", cluster.master, "--worker", f"{cluster.folder}/worker"]
        cluster.wait_for_workers()
        watched = cluster.processes()
    peak = 0
    with tempfile.TemporaryFile("w+") as stderr:
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, text=True) as process:
            trees = [psutil.Process(process.pid), *watched]
            while process.poll() is None:
                peak = max(peak, sum(map(resident, trees)))
                time.sleep(0.05)
            printed = process.stdout.read() if process.stdout else ""
        if process.returncode:
            stderr.seek(0)
            raise SystemExit(f"{way} failed:\n{stderr.read()[-3000:]}")
    shutil.rmtree(out)
    clips = len(json.loads((corpus / "manifest.json").read_text())["clips"])
    return Run(clips, json.loads(printed.splitlines()[-1])["seconds"], peak)


@contextmanager
def flink(folder: Path, workers: int) -> Iterator[Cluster]:
    """Run a cluster while the block runs."""
    cluster = folder / "cluster"
    home = os.environ.get("FLINK_HOME")
    rest, rpc = pick_port(None, None)
    options = [f"--folder={cluster}", f"--rest-port={rest}", f"--rpc-port={rpc}", f"--taskmanagers={workers}"]
    options += [f"--home={home}"] if home else []
    call = [sys.executable, str(ROOT / "deploy" / "flink" / "cluster.py")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLINK_")}
    try:
        subprocess.run([*call, "start", *options], check=True, stdout=subprocess.DEVNULL, env=environment)
        yield Cluster(cluster, f"localhost:{rest}")
    finally:
        subprocess.run([*call, "stop", *options], check=True, stdout=subprocess.DEVNULL, env=environment)


def why_no_flink() -> str:
    """Say what Flink's rows lack; empty where nothing does."""
    try:
        check_requirements(parse_options(BeamSettings("flink", flink_master="[local]").arguments()))
    except BadInputError as error:
        return str(error)
    return ""


@dataclass(frozen=True)
class Line:
    """seconds = start + clips / rate, fitted.

    Attributes:
        start: seconds.
        rate: clips/s.
        fit: R2; None of two measurements alone, through which a line always goes.
    """

    start: float
    rate: float
    fit: float | None

    @classmethod
    def through(cls, runs: list[Run]) -> Line:
        """Fit to the runs of one way, with two numbers of clips at least."""
        clips, seconds = np.array([run.clips for run in runs]), np.array([run.seconds for run in runs])
        slope, start = np.polyfit(clips, seconds, 1)
        rest, all_of_it = ((seconds - start - slope * clips) ** 2).sum(), ((seconds - seconds.mean()) ** 2).sum()
        fit = float(1 - rest / all_of_it) if len(runs) > 2 and all_of_it else None
        return cls(float(start), float(1 / slope) if slope else float("inf"), fit)

    @property
    def holds(self) -> bool:
        """Whether the rate is a result: not where times go up and down whatever the number of clips."""
        return 0 < self.rate < float("inf") and (self.fit is None or self.fit >= LEAST_FIT)


def controls_that_do_not_grow(lines: dict[str, Line]) -> dict[str, float]:
    """Return the controls of several processes whose rate is too little above one process's, with how many times."""
    one = lines.get("control-1")
    times = {
        way: one_line.rate / one.rate
        for way, one_line in lines.items()
        if one and way.startswith("control-") and way != "control-1" and one_line.holds and one.holds
    }
    return {way: growth for way, growth in times.items() if growth < LEAST_GROWTH * int(way.partition("-")[2])}


def doubts(lines: dict[str, Line]) -> list[str]:
    """Say which numbers are no results, and why."""
    said = []
    for way, one in lines.items():
        if one.fit is not None and one.fit < LEAST_FIT:
            said.append(
                f"{way}: R2 {one.fit:.2f} is below {LEAST_FIT}: no straight line, so no rate and no ratio of it"
            )
        elif not one.holds:
            said.append(f"{way}: more clips took no longer: no rate and no ratio of it")
    if any(one.fit is None for one in lines.values()):
        said.append(
            "two measurements of a way: a line goes through any two, R2 says nothing (more --clips or --rounds)"
        )
    for way, growth in controls_that_do_not_grow(lines).items():
        said.append(
            f"{way} is {growth:.2f} times control-1: the machine had no cores to spare, so ratios marked ? say little "
            "of a runner"
        )
    if said:
        said.append("measure on a quiet machine, with more clips and --rounds 3")
    return said


def by_clips(runs: dict[str, list[Run]], counts: list[int]) -> Table:
    table = Table(title="seconds (clips/s, peak MB), medians")
    for column in ("", *(f"{count} clips" for count in counts)):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for way, of_way in runs.items():
        cells = []
        for count in counts:
            there = [run for run in of_way if run.clips == count]
            seconds = statistics.median(run.seconds for run in there)
            peak = max(run.peak for run in there) / 1e6
            cells.append(f"{seconds:.1f} ({count / seconds:.0f}, {peak:.0f})")
        table.add_row(way, *cells)
    return table


def by_workers(runs: dict[str, list[Run]], counts: list[int]) -> Table:
    table = Table(title="what a straight line through all times says")
    for column in ("", "start s", "clips/s", "R2", "times 1 worker", "of control", f"of control, {counts[-1]} clips"):
        table.add_column(column, justify="right" if column else "left")
    largest = {
        way: statistics.median(run.seconds for run in of_way if run.clips == counts[-1]) for way, of_way in runs.items()
    }
    lines = {way: Line.through(of_way) for way, of_way in runs.items()}
    doubtful = controls_that_do_not_grow(lines)

    def ratio(value: float, way: str, other: str) -> str:
        if not (lines[way].holds and lines[other].holds):
            return "-"
        workers = way.partition("-")[2]
        return f"{value:.2f}{' ?' if f'control-{workers}' in doubtful else ''}"

    for way, of_way in lines.items():
        runner, _, workers = way.partition("-")
        one, plain = f"{runner}-1", f"control-{workers}"
        table.add_row(
            way,
            f"{of_way.start:.1f}" if of_way.holds else "-",
            f"{of_way.rate:.1f}" if of_way.holds else "-",
            "" if of_way.fit is None else f"{of_way.fit:.4f}{'' if of_way.fit >= LEAST_FIT else ' !'}",
            ratio(of_way.rate / lines[one].rate, way, one) if one in lines else "",
            ratio(of_way.rate / lines[plain].rate, way, plain) if plain in lines else "",
            ratio(largest[plain] / largest[way], way, plain) if plain in lines else "",
        )
    return table


def compare(folder: Path, counts: list[int], ways: list[str], rounds: int, console: Console) -> None:
    missing = why_no_flink() if any(way.startswith("flink") for way in ways) else ""
    if missing:
        console.print(f"Flink: not measured: {missing}")
        ways = [way for way in ways if not way.startswith("flink")]
    corpora = {}
    for count in counts:
        corpora[count] = folder / f"clips-{count}"
        annotations = make_corpus(corpora[count], count)
        manifest = read_manifest(str(corpora[count]), str(annotations), SETTINGS)
        (corpora[count] / "manifest.json").write_text(manifest.to_json())
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    on_flink = [int(way[-1]) for way in ways if way.startswith("flink")]

    def measure_all(cluster: Cluster | None) -> None:
        for number in range(rounds):
            for count in counts:
                for way in ways:
                    runs[way].append(measure(way, corpora[count], folder, cluster))
                    run = runs[way][-1]
                    console.print(f"round {number + 1}, {count} clips, {way}: {run.seconds:.1f} s", style="dim")

    if on_flink:
        with flink(folder, max(on_flink)) as cluster:
            measure_all(cluster)
    else:
        measure_all(None)
    console.print(by_clips(runs, counts))
    if len(counts) > 1:
        console.print(by_workers(runs, counts))
        for said in doubts({way: Line.through(of_way) for way, of_way in runs.items()}):
            console.print(f"! {said}", soft_wrap=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[500, 1000, 2000, 4000], help="[500 1000 2000 4000]")
    parser.add_argument("--rounds", type=int, default=1, help="how often each is measured [%(default)s]")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="[all]")
    parser.add_argument("--out", type=Path, help="folder for the files, 6 GB, removed after [a temporary one]")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--master", default="", help=argparse.SUPPRESS)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measure_here(arguments.way, arguments.corpus, arguments.out, arguments.master, arguments.worker)
        return
    console = Console(width=None if sys.stdout.isatty() else 130)
    if arguments.out:
        arguments.out = arguments.out.resolve()
        arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.out, prefix="benchmark-") as name:
        compare(Path(name), sorted(arguments.clips), arguments.ways, arguments.rounds, console)
    console.print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
