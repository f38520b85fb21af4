"""A real Flink cluster on one machine, for people to try and for the tests.

    python deploy/flink/cluster.py start --taskmanagers 2
    autotag preprocess mtat mtat/annotations_final.csv mtat-examples \\
        --runner flink --flink-master localhost:8081 --parallelism 2 --worker-command flink-cluster/worker
    python deploy/flink/cluster.py stop
    python deploy/flink/cluster.py settings --slots 1 --parallelism 32     (for a cluster elsewhere)

Flink comes from PyPI (apache-flink-libraries: its jars, no start scripts) into FOLDER/flink at the first start, or from
a Flink that is unpacked already (--home). Needs Java 11 or 17. Each TaskManager starts its Beam workers as processes by
FOLDER/worker, in the Python that this script runs with, where autotag must be installed. What JobManager, TaskManagers
and workers say is in FOLDER/log and stays there when the cluster is stopped; the starts before have FOLDER/log.1 (the
latest of them) to log.5. Standard library alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

FLINK = "1.19.3"
"""Beam's job server is made for one minor version of Flink: preprocessing.beam.flink.FLINK_VERSION."""

JAVA_17 = [
    *(
        f"--add-exports={name}=ALL-UNNAMED"
        for name in (
            "java.base/sun.net.util",
            "java.rmi/sun.rmi.registry",
            "java.security.jgss/sun.security.krb5",
            *(f"jdk.compiler/com.sun.tools.javac.{part}" for part in ("api", "file", "parser", "tree", "util")),
        )
    ),
    *(
        f"--add-opens=java.base/{name}=ALL-UNNAMED"
        for name in (
            "java.lang",
            "java.net",
            "java.io",
            "java.nio",
            "sun.nio.ch",
            "java.lang.reflect",
            "java.text",
            "java.time",
            "java.util",
            "java.util.concurrent",
            "java.util.concurrent.atomic",
            "java.util.concurrent.locks",
        )
    ),
]
"""What Flink's own configuration opens to itself (env.java.opts.all)."""

LOG4J = """\
rootLogger.level = INFO
rootLogger.appenderRef.file.ref = File
appender.file.name = File
appender.file.type = FILE
appender.file.append = true
appender.file.fileName = ${sys:log.file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} - %m%n
"""

PROCESSES = "processes.json"
LOGS_KEPT = 5
"""Earlier starts whose logs are kept."""

BUFFER_KIB = 32
"""Of a network buffer (taskmanager.memory.segment-size)."""
SHUFFLE_BUFFERS = 64
"""Of a blocking result partition (taskmanager.network.sort-shuffle.min-buffers). Flink's 512 are 16 MB of each: a few
of StatisticsGen's 342 tasks had all 256 MB, and the others "Insufficient number of network buffers"."""
STAGES = 96
"""Steps of one job whose tasks are in a slot at once: with so many StatisticsGen (342 tasks) and Transform (418), both
at parallelism 2, come to the 256 MB with which they were seen to run."""
HEAP_MB = 456
"""Of Java's heap that a slot's tasks have."""
OFF_HEAP_MB = 512
"""Of direct memory for what goes to a slot's Beam worker and back by gRPC. Flink counts none of it unless told to
(taskmanager.memory.task.off-heap.size is 0), and Transform ended with "OutOfMemoryError: Direct buffer memory", of
which the client saw "call is closed". Neither more network memory nor a larger process cured it."""
FRAMEWORK_MB = 256
"""Flink's own, heap and off-heap."""
MANAGED = 0.4
"""Part of Flink's memory that it keeps for sorting (taskmanager.memory.managed.fraction)."""
OVERHEAD, OVERHEAD_MB = 0.1, (192, 1024)
"""Part of the process that is Java's own, with its limits (taskmanager.memory.jvm-overhead)."""


class Memory(NamedTuple):
    """What a TaskManager is given, in MB.

    Attributes:
        network: for shuffles.
        off_heap: direct memory of its tasks.
        process: all of it, without its Beam workers, which are processes of their own.
    """

    network: int
    off_heap: int
    process: int


def memory_for(
    slots: int, parallelism: int, metaspace: int, network: int | None = None, off_heap: int | None = None
) -> Memory:
    """Return what a TaskManager needs for a pipeline's own Beam steps (StatisticsGen, Transform, Evaluator).

    Each slot has heap, direct memory and shuffles of its own. A shuffle takes the buffers of its result partition and,
    for what it reads, two of each task of the step before and eight more: so it grows with the job's parallelism. A
    slot at parallelism 2 and a metaspace of 768 MB come to what such jobs were seen to run with, found by changing one
    setting at a time: 256 MB of network, 512 MB off-heap, 3600 MB in all.

    Args:
        slots: of the TaskManager.
        parallelism: of the largest job.
        metaspace: MB for classes.
        network: MB, where it is given.
        off_heap: MB, where it is given.
    """
    buffers = STAGES * (SHUFFLE_BUFFERS + 2 * parallelism + 8)
    network = _up(slots * buffers * BUFFER_KIB / 1024, 64) if network is None else network
    off_heap = slots * OFF_HEAP_MB if off_heap is None else off_heap
    flink = (FRAMEWORK_MB + slots * HEAP_MB + network + off_heap) / (1 - MANAGED)
    least, most = OVERHEAD_MB
    overhead = min(max((flink + metaspace) * OVERHEAD / (1 - OVERHEAD), least), most)
    return Memory(network, off_heap, _up(flink + metaspace + overhead, 100))


def _up(value: float, step: int) -> int:
    return math.ceil(value / step) * step


def megabytes(text: str) -> int:
    """Read a size as Flink writes it, such as 512m or 2g.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    found = re.fullmatch(r"(\d+) ?(m|mb|g|gb)", text.strip().lower())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a size such as 512m or 2g")
    return int(found[1]) * (1024 if found[2].startswith("g") else 1)


def main() -> None:
    """Run the command line."""
    arguments = parse()
    {"start": start, "stop": stop, "status": status, "settings": settings}[arguments.action](arguments)


def parse() -> argparse.Namespace:
    """Parse the command line; each option's default can be set by a variable of the environment."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["start", "stop", "status", "settings"])

    def option(name: str, default: Any, text: str) -> None:
        variable = f"FLINK_{name.upper().replace('-', '_')}"
        value = os.environ.get(variable, default)
        kind = int if isinstance(default, int) else str
        parser.add_argument(f"--{name}", type=kind, default=value, help=f"{text} [{default}; {variable}]")

    def size(name: str, default: str, text: str) -> None:
        variable = f"FLINK_{name.upper().replace('-', '_')}"
        value = os.environ.get(variable, default) or None
        said = default or "by slots and parallelism"
        parser.add_argument(f"--{name}", type=megabytes, default=value, help=f"{text} [{said}; {variable}]")

    option("folder", "flink-cluster", "configuration, logs and state")
    option("home", "", "folder with Flink's lib; downloaded into FOLDER/flink unless given")
    option("taskmanagers", 2, "how many")
    option("slots", 1, "task slots of each, which share one Beam worker")
    option("host", "localhost", "address that all of them bind")
    option("rest-port", 8081, "of the REST interface and web page")
    option("rpc-port", 6123, "of the JobManager")
    option("parallelism", 0, "of the largest job, which sizes the TaskManagers; 0: all slots")
    size("jobmanager-memory", "1600m", "of the JobManager's process")
    size("taskmanager-memory", "", "of each TaskManager's process, its Beam workers not counted")
    size("metaspace", "768m", "of either for classes; each Beam job leaves some behind (apache/beam issue 32372)")
    size("network-memory", "", "of a TaskManager for shuffles")
    size("task-off-heap", "", "of a TaskManager for gRPC to its Beam workers (direct memory)")
    option("timeout", 120, "seconds to wait for all task slots")
    return parser.parse_args()


def start(arguments: argparse.Namespace) -> None:
    """Start JobManager and TaskManagers, and wait until REST says that all slots are there."""
    folder = Path(arguments.folder).resolve()
    if running(folder):
        raise SystemExit(f"a cluster is running from {folder}; stop it first")
    java = shutil.which("java") or sys.exit("java not found: Flink needs Java 11 or 17")
    home = Path(arguments.home).resolve() if arguments.home else download(folder / "flink")
    set_logs_aside(folder)
    conf = write_configuration(folder, arguments)
    processes = {"jobmanager": launch("jobmanager", java, home, conf, arguments)}
    save(folder, processes)
    for number in range(1, arguments.taskmanagers + 1):
        processes[f"taskmanager-{number}"] = launch(f"taskmanager-{number}", java, home, conf, arguments)
        save(folder, processes)
    wanted = arguments.taskmanagers * arguments.slots
    try:
        wait_for_slots(arguments, wanted, processes)
    except BaseException:
        stop(arguments)
        raise
    master = f"{arguments.host}:{arguments.rest_port}"
    print(
        f"Flink {FLINK} at http://{master}: {arguments.taskmanagers} TaskManagers, {wanted} slots; logs in {folder}/log"
    )
    print(f"--runner flink --flink-master {master} --parallelism {wanted} --worker-command {folder}/worker")


def download(target: Path) -> Path:
    """Fetch Flink's jars from PyPI unless they are there; returns the folder that has lib."""
    home = target / "pyflink"
    if not (home / "lib").is_dir():
        partial = target.with_name(target.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        print(f"fetching apache-flink-libraries {FLINK} (230 MB) into {target}", flush=True)
        package = f"apache-flink-libraries=={FLINK}"
        call = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(partial), package]
        subprocess.run(call, check=True)
        partial.rename(target)
    return home


def set_logs_aside(folder: Path) -> None:
    """Rename the logs of the start before, and of those before it, of which the oldest goes."""
    names = ["log", *(f"log.{number}" for number in range(1, LOGS_KEPT + 1))]
    if (folder / "log").is_dir():
        shutil.rmtree(folder / names[-1], ignore_errors=True)
        for older, newer in reversed(list(zip(names[1:], names[:-1], strict=True))):
            if (folder / newer).is_dir():
                (folder / newer).rename(folder / older)


def memory_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return Flink's settings of memory: what was given, the rest by slots and parallelism."""
    parallelism = arguments.parallelism or arguments.taskmanagers * arguments.slots
    memory = memory_for(
        arguments.slots, parallelism, arguments.metaspace, arguments.network_memory, arguments.task_off_heap
    )
    return {
        "jobmanager.memory.process.size": f"{arguments.jobmanager_memory}m",
        "jobmanager.memory.jvm-metaspace.size": f"{arguments.metaspace}m",
        "taskmanager.numberOfTaskSlots": arguments.slots,
        "taskmanager.memory.process.size": f"{arguments.taskmanager_memory or memory.process}m",
        "taskmanager.memory.jvm-metaspace.size": f"{arguments.metaspace}m",
        "taskmanager.memory.network.min": f"{memory.network}m",
        "taskmanager.memory.network.max": f"{memory.network}m",
        "taskmanager.network.sort-shuffle.min-buffers": SHUFFLE_BUFFERS,
        "taskmanager.memory.task.off-heap.size": f"{memory.off_heap}m",
    }


def settings(arguments: argparse.Namespace) -> None:
    """Print the settings of memory as Flink's config.yaml has them, for a cluster that is started otherwise."""
    for key, value in memory_settings(arguments).items():
        print(f"{key}: {value}")


def write_configuration(folder: Path, arguments: argparse.Namespace) -> Path:
    """Write Flink's configuration and the program that starts a Beam worker; returns the configuration's folder."""
    conf = folder / "conf"
    for path in (conf, folder / "log", folder / "tmp"):
        path.mkdir(parents=True, exist_ok=True)
    values = {
        "jobmanager.rpc.address": arguments.host,
        "jobmanager.rpc.port": arguments.rpc_port,
        "jobmanager.bind-host": arguments.host,
        **memory_settings(arguments),
        "taskmanager.host": arguments.host,
        "taskmanager.bind-host": arguments.host,
        "rest.address": arguments.host,
        "rest.bind-address": arguments.host,
        "rest.port": arguments.rest_port,
        "rest.bind-port": arguments.rest_port,
        "parallelism.default": arguments.taskmanagers * arguments.slots,
        # A lost TaskManager or worker costs seconds and not the job; shards that are there are not made again.
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 10,
        "restart-strategy.fixed-delay.delay": "2 s",
        "heartbeat.interval": 2000,
        "heartbeat.timeout": 20000,
        "io.tmp.dirs": str(folder / "tmp"),
    }
    (conf / "config.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()))
    (conf / "log4j.properties").write_text(LOG4J)
    worker = folder / "worker"
    call = f"{shlex.quote(sys.executable)} -m preprocessing.sdk_worker"
    log = shlex.quote(f"{folder}/log/workers.log")  # Beam itself throws away what a worker says before it is connected
    worker.write_text(f'#!/bin/sh\nexec {call} "$@" >>{log} 2>&1\n')
    worker.chmod(0o755)
    return conf


def launch(name: str, java: str, home: Path, conf: Path, arguments: argparse.Namespace) -> int:
    """Start one Java process; returns its id."""
    kind = name.partition("-")[0]
    memory, dynamic = memory_options(kind, java, home, conf)
    folder = conf.parent
    entry = {
        "jobmanager": "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint",
        "taskmanager": "org.apache.flink.runtime.taskexecutor.TaskManagerRunner",
    }[kind]
    call = [
        java,
        *memory,
        *JAVA_17,
        f"-Dlog.file={folder}/log/{name}.log",
        f"-Dlog4j.configurationFile={conf}/log4j.properties",
        "-cp",
        f"{home}/lib/*",
        entry,
        "--configDir",
        str(conf),
        *dynamic,
    ]
    if kind == "taskmanager":
        call += ["-D", f"taskmanager.resource-id={name}"]
    with open(folder / "log" / f"{name}.out", "wb") as out:
        process = subprocess.Popen(
            call, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
        )
    return process.pid


def memory_options(kind: str, java: str, home: Path, conf: Path) -> tuple[list[str], list[str]]:
    """Ask Flink's own tool what flags of Java and what settings follow from the configured memory."""
    command = {"jobmanager": "GET_JM_RESOURCE_PARAMS", "taskmanager": "GET_TM_RESOURCE_PARAMS"}[kind]
    classes = f"{home}/bin/bash-java-utils.jar:{home}/lib/*"
    call = [java, *JAVA_17, "-cp", classes, "org.apache.flink.runtime.util.bash.BashJavaUtils", command]
    done = subprocess.run([*call, "--configDir", str(conf)], capture_output=True, text=True)
    mark = "BASH_JAVA_UTILS_EXEC_RESULT:"
    lines = [line.partition(mark)[2] for line in done.stdout.splitlines() if mark in line]
    if done.returncode or not lines:
        raise SystemExit(f"Flink refuses the memory settings:\n{done.stdout}{done.stderr}")
    return shlex.split(lines[0]), shlex.split(lines[1]) if len(lines) > 1 else []


def wait_for_slots(arguments: argparse.Namespace, wanted: int, processes: dict[str, int]) -> None:
    """Wait until the cluster has all its task slots; SystemExit with the place of the log where it does not."""
    deadline = time.monotonic() + arguments.timeout
    while time.monotonic() < deadline:
        if (overview(arguments) or {}).get("slots-total", 0) >= wanted:
            return
        for name, pid in processes.items():
            if not alive(pid):
                raise SystemExit(f"{name} ended; see {arguments.folder}/log/{name}.out and .log")
        time.sleep(0.5)
    raise SystemExit(f"not all task slots came within {arguments.timeout} s; see {arguments.folder}/log")


def overview(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """Return what Flink's REST interface says of the cluster, None where it does not answer."""
    try:
        with urllib.request.urlopen(f"http://{arguments.host}:{arguments.rest_port}/overview", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except (OSError, ValueError):
        return None


def stop(arguments: argparse.Namespace) -> None:
    """Stop what start started, and the Beam workers of its TaskManagers."""
    folder = Path(arguments.folder).resolve()
    started = sessions(folder)
    for code in (signal.SIGTERM, signal.SIGKILL):
        for pid in filter(members, started):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, code)
        deadline = time.monotonic() + 15
        while any(map(members, started)) and time.monotonic() < deadline:
            time.sleep(0.1)
    (folder / PROCESSES).unlink(missing_ok=True)
    print(f"stopped {len(started)} processes; logs in {folder}/log" if started else f"no cluster runs from {folder}")


def status(arguments: argparse.Namespace) -> None:
    """Print what runs; exit code 1 where nothing does."""
    processes = running(Path(arguments.folder).resolve())
    found = overview(arguments)
    for name, pid in processes.items():
        print(f"{name}: process {pid}")
    if found is None:
        raise SystemExit(f"nothing answers at {arguments.host}:{arguments.rest_port}")
    print(f"{found['taskmanagers']} TaskManagers, {found['slots-available']} of {found['slots-total']} slots free")


def save(folder: Path, processes: dict[str, int]) -> None:
    """Note the processes' ids."""
    (folder / PROCESSES).write_text(json.dumps(processes))


def recorded(folder: Path) -> dict[str, int]:
    """Return name -> process id of the processes that start noted."""
    try:
        processes: dict[str, int] = json.loads((folder / PROCESSES).read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return processes


def running(folder: Path) -> dict[str, int]:
    """Return name -> process id of the cluster's processes that are alive."""
    return {name: pid for name, pid in recorded(folder).items() if alive(pid) and str(folder) in command_line(pid)}


def sessions(folder: Path) -> list[int]:
    """Return the ids of the cluster's sessions (one a process, with its workers) that somebody of is alive.

    A TaskManager that was killed may have left workers.
    """
    found = []
    for pid in filter(members, recorded(folder).values()):
        leader = command_line(pid).strip()
        if str(folder) in leader or not leader or leader.endswith("<defunct>"):
            found.append(pid)
    return found


def members(session: int) -> bool:
    """Whether any process of a session is alive."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(session, os.WNOHANG)
    done = subprocess.run(["ps", "-o", "stat=", "-s", str(session)], capture_output=True, text=True)
    return any(not state.startswith("Z") for state in done.stdout.split())


def alive(pid: int) -> bool:
    """Whether a process of this id is there and not only waiting to be reaped."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def command_line(pid: int) -> str:
    """Return a process's command line, so that a number that another process has by now is not taken for ours."""
    done = subprocess.run(["ps", "-o", "args=", "-ww", "-p", str(pid)], capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    main()
