"""Programs beside Python, the graphics card, Kubeflow's server, and how much room there is.

Each function imports what it asks of the rest of the program itself: of what does not load there, its finding tells.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.filesize import decimal

from pipeline.doctor.findings import Finding

SECONDS: Final = 10
"""So long may a program take to say its version."""
SERVER_SECONDS: Final = 3

FFMPEG_DECODERS: Final = {
    "AAC": "aac",
    "ALAC": "alac",
    "WMA": "wmav2",
    "WavPack": "wavpack",
    "APE": "ape",
    "Musepack": "mpc8",
    "DSD": "dsd_lsbf",
    "AC-3": "ac3",
    "AMR": "amrnb",
    "TTA": "tta",
    "TAK": "tak",
    "Opus": "opus",
    "Vorbis": "vorbis",
    "MP3": "mp3float",
}
"""What people call what ffmpeg decodes for autotag -> ffmpeg's name of the decoder."""

LIBSNDFILE: Final = {"MP3": "MPEG_LAYER_III", "FLAC": "PCM_16", "OGG": "OPUS"}
"""Format -> subtype that this version of libsndfile must know to read it."""


def ask(*call: str) -> tuple[str, str]:
    """Run a program that says something of itself; returns (its output, why there is none)."""
    try:
        done = subprocess.run(
            call,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"{call[0]} did not answer in {SECONDS} s"
    except OSError as error:
        return "", f"{call[0]} does not start: {error.strerror or error}"
    said = done.stdout.decode(errors="replace").rstrip()
    if done.returncode == 0:
        return said, ""
    return "", said.splitlines()[-1].strip() if said else f"{call[0]} ended with {done.returncode}"


def _program(
    name: str, found: str | None, without: str, remedy: str, option: str = "--version", line: int = 0
) -> Finding:
    """Look whether a program says its version, in this line of its output; ``found`` is its path, None for none."""
    if found is None:
        return Finding(name, "program", "missing", without, remedy)
    said, why = ask(found, option)
    if why:
        return Finding(name, "program", "broken", why, remedy)
    return Finding(name, "program", "ok", f"{said.splitlines()[line].strip() if said else ''} at {found}")


def libsndfile() -> Finding:
    """Look which formats libsndfile reads."""
    import soundfile

    known = [name for name, subtype in LIBSNDFILE.items() if subtype in soundfile.available_subtypes(name)]
    detail = f"{soundfile.__libsndfile_version__}: WAV, AIFF, {', '.join(known)}"
    if len(known) < len(LIBSNDFILE):
        return Finding("libsndfile", "audio", "broken", f"{detail} alone", "pip install --upgrade soundfile")
    return Finding("libsndfile", "audio", "ok", detail)


def ffmpeg() -> Finding:
    """Look for ffmpeg, and for the decoders that it is wanted for."""
    from preprocessing.audio.ffmpeg import find_ffmpeg

    remedy = "apt-get install ffmpeg"
    found = find_ffmpeg()
    if found is None:
        return Finding("ffmpeg", "audio", "missing", "M4A, WMA, WavPack and the like cannot be read", remedy)
    listed, why = ask(found, "-hide_banner", "-decoders")
    if why:
        return Finding("ffmpeg", "audio", "broken", why, remedy)
    names = set(re.findall(r"^ A\S{5} (\S+)", listed, re.MULTILINE))
    there = [format_ for format_, name in FFMPEG_DECODERS.items() if name in names]
    lacks = [format_ for format_ in FFMPEG_DECODERS if format_ not in there]
    version = re.search(r"version (\S+)", ask(found, "-version")[0])
    detail = f"{version[1] if version else ''} at {found}: {', '.join(there)}" + f"; not {', '.join(lacks)}" * bool(
        lacks
    )
    return Finding("ffmpeg", "audio", "ok", detail)


def graphics_card() -> Finding:
    """Look for an NVIDIA GPU; whether TensorFlow sees it is said there."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return Finding("GPU", "machine", "missing", "no nvidia-smi: training and tagging take the CPU")
    said, why = ask(program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
    if why:
        return Finding("GPU", "machine", "broken", why, "NVIDIA's driver")
    return Finding("GPU", "machine", "ok", "; ".join(said.splitlines()))


def server_program() -> Finding:
    """Look for TensorFlow Serving's program, where `autotag serve` does."""
    from serving.server.launchers import PROGRAM, PROGRAM_VARIABLE

    named = os.environ.get(PROGRAM_VARIABLE)
    remedy = f"{PROGRAM} on PATH or in {PROGRAM_VARIABLE}, or a container engine"
    return _program("TensorFlow Serving", named or shutil.which(PROGRAM), f"no {PROGRAM}", remedy)


def container_engine() -> Finding:
    """Look for Docker or podman that answers, and whether TensorFlow Serving's image is there."""
    from serving.server.launchers import ENGINES, IMAGE

    reasons, remedy = [], "Docker or podman"
    for name in ENGINES:
        if (program := shutil.which(name)) is None:
            continue
        said, why = ask(program, "version", "--format", "{{if .Server}}{{.Server.Version}}{{end}}")
        if not why and said:
            there = not ask(program, "image", "inspect", IMAGE)[1]
            detail = f"{name} {said}; {IMAGE} {'is there' if there else 'is pulled when it is needed'}"
            return Finding("container engine", "program", "ok", detail)
        reasons.append(f"{name}: {why or 'no server answers'}")
    if reasons:
        return Finding("container engine", "program", "broken", "; ".join(reasons), remedy)
    return Finding("container engine", "program", "missing", f"no {' or '.join(ENGINES)}", remedy)


def java() -> Finding:
    """Look for Java, which Beam's job servers need."""
    remedy = "apt-get install openjdk-17-jre-headless"
    return _program("Java", shutil.which("java"), "no java", remedy, option="-version")


def flink_jar() -> Finding:
    """Look for Beam's job server for Flink where Beam keeps it."""
    from preprocessing.beam.flink import FLINK_VERSION

    name, section = "Flink job server", "program"
    try:
        beam = importlib.metadata.version("apache-beam")
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, section, "missing", "no Beam, which says which one")
    file = Path("~/.apache_beam/cache/jars").expanduser() / f"beam-runners-flink-{FLINK_VERSION}-job-server-{beam}.jar"
    if file.is_file():
        return Finding(name, section, "ok", str(file))
    return Finding(name, section, "missing", f"{file}: fetched from Maven Central when it is needed")


def chromium() -> Finding:
    """Look for the browser in which the page is tested."""
    found = os.environ.get("AUTOTAG_CHROMIUM") or shutil.which("chromium")
    remedy = "apt-get install chromium, or its path in AUTOTAG_CHROMIUM"
    return _program("Chromium", found, "no chromium", remedy, line=-1)


def kubeflow_server() -> Finding:
    """Ask the Kubeflow server that the environment names whether it is well."""
    from pipeline.kubeflow.connection import HOST_VARIABLE

    name = "Kubeflow server"
    host = os.environ.get(HOST_VARIABLE)
    if not host:
        without = f"none named in {HOST_VARIABLE}; --host and kubeflow.host name one, too"
        return Finding(name, "machine", "missing", without)
    url = (host if "://" in host else f"http://{host}").rstrip("/")
    try:
        with urllib.request.urlopen(f"{url}/apis/v2beta1/healthz", timeout=SERVER_SECONDS):
            return Finding(name, "machine", "ok", url)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return Finding(name, "machine", "ok", f"{url} answers, and wants a token ({error.code})")
        return Finding(name, "machine", "broken", f"{url}: {error}", f"another address in {HOST_VARIABLE}")
    except (OSError, ValueError) as error:
        return Finding(name, "machine", "broken", f"{url}: {error}", f"another address in {HOST_VARIABLE}, or start it")


def cores() -> Finding:
    """Count the cores that may be used."""
    from serving.engines.runtimes import usable_cores

    return Finding("cores", "machine", "ok", str(usable_cores()))


def memory() -> Finding:
    """Return how much memory there is."""
    size = memory_bytes()
    return Finding("memory", "machine", "ok", decimal(size) if size is not None else "of unknown size")


def disk() -> Finding:
    """Return what is free on the disk of the current folder."""
    return Finding("disk", "machine", "ok", f"{decimal(free_bytes(Path.cwd()))} free under {Path.cwd()}")


def cache() -> Finding:
    """Return where fetched models lie, which, and how much room they take and have."""
    from serving.pretrained.cache import cache_folder

    folder = cache_folder()
    models = sorted(one.name for one in (folder / "models").glob("*") if one.is_dir())
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    detail = f"{folder}: {decimal(size)}" + f", models {', '.join(models)}" * bool(models)
    return Finding("cache", "machine", "ok", f"{detail}; {decimal(free_bytes(folder))} free")


def free_bytes(folder: Path) -> int:
    """Return what is free on the disk of a folder, which may not be there yet."""
    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def memory_bytes(limits: Sequence[Path] = (Path("/sys/fs/cgroup/memory.max"),)) -> int | None:
    """Return the memory of the machine, or of the container; None where nothing tells."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None
    texts = [path.read_text().strip() for path in limits if path.is_file()]
    return min([memory, *(int(text) for text in texts if text.isdigit())])
