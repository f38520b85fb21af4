"""What the page costs: its first byte, a song of three minutes heard and drawn, twenty people at once, a large folder.

    python -m benchmarks.page [--song FILE] [--model NAME|DIR] [--clients 20] [--files 10000]

The server is the program itself, in a process of its own, asked over HTTP as its page does. CPU seconds are those of
that process (user and system), memory its largest resident set. Without --song, three minutes of tones and noise as a
stereo MP3 of 44.1 kHz are made; each client gets a copy of its own, so that nothing is answered from what is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import soundfile as sf

from benchmarks.machine import cpu_name

SECONDS = 180.0
RATE = 44_100
ROUNDS = 5


@dataclass
class Server:
    """The program and how to ask it."""

    process: psutil.Process
    client: httpx.Client
    base: str
    started: float

    def cpu(self) -> float:
        """Seconds so far."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def peak_megabytes(self) -> float:
        """Largest resident set so far."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024


@contextlib.contextmanager
def server(folder: Path, model: str) -> Iterator[Server]:
    call = [sys.executable, "-m", "benchmarks.page", "--serve", "page", str(folder), "--model", model, "--port", "0"]
    begin = time.perf_counter()
    process = subprocess.Popen([*call, "--no-browser"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    line = process.stderr.readline()
    base = re.findall(r"http://localhost:\d+", line)[0]
    started = time.perf_counter() - begin
    try:
        with httpx.Client(base_url=base, headers={"origin": base}, timeout=600) as client:
            yield Server(psutil.Process(process.pid), client, base, started)
    finally:
        process.terminate()
        process.wait()


def make_song(path: Path) -> None:
    """Tones with noise, both channels alike but for the noise."""
    rng = np.random.default_rng(0)
    times = np.arange(round(SECONDS * RATE)) / RATE
    tone = sum(np.sin(2 * np.pi * hertz * times * (1 + 0.01 * np.sin(times))) for hertz in (110, 330, 1870))
    sf.write(path, (0.15 * tone[:, None] + 0.05 * rng.normal(size=(len(times), 2))).astype(np.float32), RATE)


def timed(ask: Callable[[], object], rounds: int = 20) -> float:
    """Median milliseconds."""
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        ask()
        taken.append(1000 * (time.perf_counter() - begin))
    return statistics.median(taken)


@dataclass
class Visit:
    """What one person saw."""

    first_byte: float
    first_windows: float
    seconds: float
    errors: list[str]


def visit(here: Server, song: str, model: str) -> Visit:
    """Open the page, look at a song and have it tagged."""
    errors, begin, first = [], time.perf_counter(), 0.0
    with httpx.Client(base_url=here.base, headers={"origin": here.base}, timeout=600) as client:
        with client.stream("GET", "/") as answer:
            opened = time.perf_counter() - begin
            answer.read()
        for path in ("/api/state", "/api/files", "/api/models", f"/api/peaks?song={song}", f"/api/audio?song={song}"):
            answer = client.get(path)
            if not answer.is_success:
                errors.append(f"{path}: {answer.status_code}")
        with client.stream("POST", "/api/tag", json={"song": song, "models": [model]}) as answer:
            for line in answer.iter_lines():
                said = json.loads(line)
                first = first or (time.perf_counter() - begin if said["type"] == "windows" else 0.0)
                if said["type"] == "error":
                    errors.append(said["error"])
            if said["type"] != "end":
                errors.append("not whole")
    return Visit(opened, first, time.perf_counter() - begin, errors)


def one_song(here: Server, songs: Sequence[str], model: str) -> None:
    """Heard and drawn: what one song costs."""
    visit(here, songs[0], model)
    costs = []
    for song in songs[1:]:
        before, begin = here.cpu(), time.perf_counter()
        here.client.get(f"/api/peaks?song={song}").raise_for_status()
        drawn = here.cpu()
        lines = here.client.post("/api/tag", json={"song": song, "models": [model]}).text.splitlines()
        said = json.loads(lines[-2])
        costs.append((here.cpu() - before, drawn - before, said["cpu_seconds"], time.perf_counter() - begin))
    whole, drawn, tagged, wall = (statistics.median(column) for column in zip(*costs, strict=True))
    print(f"| a song of {SECONDS:g} s, heard and drawn | {whole:.2f} s of CPU ({drawn:.2f} drawn; the stream says "
          f"{tagged:.2f} heard), {wall:.2f} s on the wall |")  # fmt: skip


def many_people(here: Server, songs: Sequence[str], model: str) -> None:
    """All at once."""
    begin, before = time.perf_counter(), here.cpu()
    with ThreadPoolExecutor(len(songs)) as pool:
        visits = list(pool.map(lambda song: visit(here, song, model), songs))
    took, spent = time.perf_counter() - begin, here.cpu() - before
    errors = [error for one in visits for error in one.errors]
    slowest = 1000 * max(one.first_byte for one in visits)
    first = statistics.median(one.first_windows for one in visits)
    print(f"| {len(songs)} people at once, a song each | {len(errors)} errors; page {slowest:.0f} ms at most, first "
          f"tags after {first:.1f} s (median), all done after {took:.1f} s, {spent:.1f} s of CPU; memory "
          f"{here.peak_megabytes():.0f} MB |")  # fmt: skip
    for error in sorted(set(errors)):
        print(f"|  | {error} |")


def bad_company(here: Server, song: str, model: str, count: int) -> None:
    """Readers who do not read, uploads that stop, and connections on which nothing is said, all at once."""
    address = urlsplit(here.base)
    tag = json.dumps({"song": song, "models": [model], "hop": 1}).encode()
    heads = {
        "GET /api/audio?song=" + song: b"",
        f"POST /api/tag HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(tag)}": tag,
        "POST /api/uploads?name=a.mp3 HTTP/1.1\r\nContent-Type: application/octet-stream\r\n"
        "Content-Length: 9000000": b"x" * 99_999,
        "": b"",
    }
    with contextlib.ExitStack() as stack:
        for head, body in heads.items():
            for _ in range(count):
                connection = stack.enter_context(socket.create_connection((address.hostname, address.port)))
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                if head:
                    line = head if "HTTP/1.1" in head else f"{head} HTTP/1.1"
                    said = f"{line}\r\nHost: {address.netloc}\r\nOrigin: {here.base}\r\n\r\n"
                    connection.sendall(said.encode() + body)
        time.sleep(2)
        page = timed(lambda: here.client.get("/").raise_for_status())
        state = timed(lambda: here.client.get("/api/state").raise_for_status())
    memory = here.peak_megabytes()
    print(f"| {len(heads) * count} bad connections | meanwhile the page's first byte {page:.0f} ms, its state "
          f"{state:.0f} ms; memory {memory:.0f} MB |")  # fmt: skip


def large_folder(folder: Path, count: int, model: str) -> None:
    """Files that are only listed."""
    for number in range(count):
        path = folder / f"artist {number // 100}" / f"album {number // 10 % 10}" / f"{number % 10} song {number}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with server(folder, model) as here:
        first = timed(lambda: here.client.get("/api/files").raise_for_status(), 1)
        last = timed(lambda: here.client.get(f"/api/files?page={count // 50}").raise_for_status())
        search = timed(lambda: here.client.get("/api/files?query=song+999").raise_for_status())
        below = timed(lambda: here.client.get("/api/files?folder=artist+7").raise_for_status())
        memory = here.peak_megabytes()
        print(f"| a folder of {count:,} files | first list {first:.0f} ms; then a page {last:.0f} ms, a search "
              f"{search:.0f} ms, a folder {below:.0f} ms; memory {memory:.0f} MB |")  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        from pipeline.cli import main as program

        del sys.argv[1]
        program()
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--song", type=Path)
    parser.add_argument("--model", default="musicnn-mtt")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--files", type=int, default=10_000)
    choices = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    print(f"{cpu_name()}; {choices.model}\n\n| what | what it took |\n|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        music = Path(scratch, "music")
        music.mkdir()
        song = choices.song or Path(scratch, "song.mp3")
        if choices.song is None:
            make_song(song)
        names = [f"{number:02d}{song.suffix}" for number in range(ROUNDS + 1 + choices.clients)]
        for name in names:
            shutil.copy(song, music / name)
        songs = [f"file:{name}" for name in names]
        with server(music, choices.model) as here:
            page = timed(lambda: here.client.get("/").raise_for_status())
            print(f"| the program starts | {here.started:.2f} s to its address |")
            print(f"| the page's first byte | {page:.1f} ms |")
            (model,) = [card["name"] for card in here.client.get("/api/models").json() if card["default"]]
            one_song(here, songs[: ROUNDS + 1], model)
            print(f"| memory after {ROUNDS + 1} songs | {here.peak_megabytes():.0f} MB |")
            many_people(here, songs[ROUNDS + 1 :], model)
            bad_company(here, songs[0], model, choices.clients)
        large_folder(Path(scratch, "library"), choices.files, choices.model)


if __name__ == "__main__":
    main()
