"""Memory of a process that answers as a server does: bounded by what lawful requests are, not by how long they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from exported_model import Exported

REPOSITORY = Path(__file__).parents[3]
MOST_GROWTH = 650
"""MiB, from one clip to ten minutes as PCM and as stereo WAV: 250 here, and 2,000 where eight windows go together."""

PROGRAM = """
import json, sys
import numpy as np
from hostile_process import Server
from hostile_requests import TensorRequest, chunk, fmt, riff, strings

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) // 1024

server = Server(sys.argv[1])
window = np.random.default_rng(0).normal(0, 3000, 465_600).astype("<i2").tobytes()
server(TensorRequest("", "pcm", {"pcm": strings([window])}, "answered"))
one = peak()
long = server(TensorRequest("", "pcm", {"pcm": strings([window * 20])}, "answered"))
stereo = riff([fmt(channels=2), chunk(b"data", window * 40)])
wav = server(TensorRequest("", "wav", {"wav": strings([stereo])}, "answered"))
print(json.dumps([one, peak(), long["windows"].tolist(), wav["windows"].tolist()]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_with_the_length_of_a_request(exported: Exported) -> None:
    path = os.pathsep.join(map(str, (REPOSITORY, REPOSITORY / "tests", Path(__file__).parent)))
    environment = {
        **os.environ,
        "PYTHONPATH": path,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "MALLOC_ARENA_MAX": "2",
    }
    call = [sys.executable, "-c", PROGRAM, str(exported.path)]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    one, most, long, wav = json.loads(done.stdout.splitlines()[-1])
    print(f"MiB: {one} after one clip, {most} at most")
    assert (long, wav) == ([20], [20])
    assert most - one < MOST_GROWTH
