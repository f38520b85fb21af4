"""The devices that there are, and the precision that suits them."""

from __future__ import annotations

import os
from typing import Final

import tensorflow as tf

from components.training_settings import Precision
from models.registry import NETWORKS

SLOW_IN_BFLOAT16: Final = frozenset({"compact_cnn"})
"""Trained on a CPU in 0.76 of the clips a second of float32; no other below 0.96 (benchmarks/training_input.py in the
states of the code that docs/explanation/measurements.md names)."""


def choose_precision(precision: Precision, network: str) -> str:
    """Return Keras' dtype policy for a network on the devices that there are.

    On a GPU bfloat16 from compute capability 8.0 on (Ampere), float16 from 7.0 on (Volta, the paper's V100). On a CPU
    what benchmarks/training_input.py found faster: bfloat16 where the CPU multiplies in it (AMX or AVX-512), but of the
    networks that are slow in it.
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    suits = network in NETWORKS and network not in SLOW_IN_BFLOAT16
    return "mixed_bfloat16" if suits and _multiplies_bfloat16() else "float32"


def _multiplies_bfloat16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = file.read()
        return "amx_bf16" in flags or "avx512_bf16" in flags
    except OSError:
        return False


def distribution() -> tf.distribute.Strategy:
    """Mirror over the GPUs where there is more than one; the default device otherwise."""
    gpus = tf.config.list_physical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def describe_devices() -> str:
    """Say in words what is trained on."""
    gpus = tf.config.list_physical_devices("GPU")
    return f"{len(gpus)} GPU" if gpus else f"{os.cpu_count()} CPU cores"
