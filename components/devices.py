"""The devices that there are, and the precision that suits them."""

from __future__ import annotations

import os

import tensorflow as tf

from components.training_settings import Precision
from models.registry import NETWORKS


def choose_precision(precision: Precision, network: str) -> str:
    """Return Keras' dtype policy for a network on the devices that there are.

    On a GPU bfloat16 from compute capability 8.0 on (Ampere), float16 from 7.0 on (Volta, the paper's V100). On a CPU
    what benchmarks/networks.py found faster: bfloat16 where the CPU multiplies in it (AMX or AVX-512).
    """
    if precision != "auto":
        return precision
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    return "mixed_bfloat16" if _multiplies_bfloat16() and network in NETWORKS else "float32"


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
