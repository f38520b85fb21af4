"""What batching in TensorFlow Serving can gain: clips a second of the SavedModel by clips a call and calls at once.

    python -m benchmarks.batching MODEL_DIR [--rounds 5]

TensorFlow Serving's batching makes one call of several requests. Without it, requests run beside each other, one a
thread. So the gain is that of a larger call over as many small calls at once;
serving/server/tfserving/batching.config names the figures. Rounds are interleaved, so that what else the machine does
falls on all alike.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import os
import statistics
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CASES = ((1, 1), (1, 2), (1, 8), (2, 1), (4, 1), (8, 1), (16, 1), (32, 1), (8, 2))
"""Clips a call, and calls at once."""
CLIPS_A_ROUND = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()

    import numpy as np
    import tensorflow as tf

    from preprocessing.constants import CLIP_SAMPLES
    from serving.model_versions import find_model

    model = tf.saved_model.load(str(find_model(options.model_dir)))
    signature = model.signatures["waveform"]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (max(size for size, _ in CASES), CLIP_SAMPLES))
    clips = tf.constant(noise.astype(np.float32))

    def ask(size: int) -> None:
        signature(waveform=clips[:size])["predictions"].numpy()

    speeds: dict[tuple[int, int], list[float]] = {case: [] for case in CASES}
    for size in sorted({size for size, _ in CASES}):
        ask(size)
    for _ in range(options.rounds):
        for (size, at_once), seen in speeds.items():
            calls = max(at_once, CLIPS_A_ROUND // size)
            with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
                begin = time.perf_counter()
                list(threads.map(ask, [size] * calls))
                seen.append(size * calls / (time.perf_counter() - begin))
    print("| clips a call | calls at once | clips/s, median | lowest - highest |")
    print("|---|---|---|---|")
    for (size, at_once), seen in speeds.items():
        print(f"| {size} | {at_once} | {statistics.median(seen):.1f} | {min(seen):.1f} - {max(seen):.1f} |")


if __name__ == "__main__":
    main()
