"""What a server is started with: settings, arguments, environment, and the files of tfserving/ beside this."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from serving.server.model_config import config_text, write_whole
from serving.server.served_model import Model

FILES: Final = Path(__file__).with_name("tfserving")
MODEL_CONFIG: Final = "models.config"
MONITORING_CONFIG: Final = "monitoring.config"
BATCHING_CONFIG: Final = "batching.config"
GRPC_THREADS: Final = 64
"""TF Serving's default of 4 a core answers RESOURCE_EXHAUSTED to the 9th client at once on 2 cores."""
BFLOAT16_FLAGS: Final = ("avx512_bf16", "amx_bf16")
"""In /proc/cpuinfo."""
ENVIRONMENT: Final = {
    # glibc keeps what is freed for each of eight arenas a core.
    "MALLOC_ARENA_MAX": "2",
    # With bfloat16: the front ends' Fourier transforms and mel filters are products of matrices too and need float32.
    # All in bfloat16, probabilities moved by up to 0.13 (0.004 on average); so, by 0.008 (0.0002). No command here
    # makes these figures.
    "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_ALLOWLIST_REMOVE": "MatMul,BatchMatMul,BatchMatMulV2,Einsum",
}
"""Of the server, where ours says nothing else."""


@dataclass(frozen=True)
class Settings:
    """How the server runs: its ports on this machine, whether it batches requests, and multiplies in bfloat16."""

    grpc_port: int = 8500
    rest_port: int = 8501
    batching: bool = False
    bfloat16: bool = False


def arguments(files: Path, settings: Settings) -> list[str]:
    """Return the server's arguments for the files that ``write_files`` left in a folder."""
    given = [
        f"--port={settings.grpc_port}",
        f"--rest_api_port={settings.rest_port}",
        "--rest_api_timeout_in_ms=120000",
        f"--grpc_max_threads={GRPC_THREADS}",
        f"--model_config_file={files / MODEL_CONFIG}",
        "--allow_version_labels_for_unavailable_models=true",
        f"--monitoring_config_file={files / MONITORING_CONFIG}",
        # A version that does not load is given up at once and keeps no other from being loaded; by default it is tried
        # for five minutes, and everything else waits.
        "--num_load_threads=2",
        "--max_num_load_retries=1",
        "--load_retry_interval_micros=1000000",
    ]
    if settings.batching:
        given += ["--enable_batching=true", f"--batching_parameters_file={files / BATCHING_CONFIG}"]
    if settings.bfloat16:
        given.append("--mixed_precision=bfloat16")
    return given


def multiplies_in_bfloat16(cpu_info: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this machine's CPU has instructions for it; without them TensorFlow's are slower than float32's."""
    try:
        text = cpu_info.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = {flag for line in text.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
    return not flags.isdisjoint(BFLOAT16_FLAGS)


def write_files(folder: Path, model: Model) -> None:
    """Write the server's files to a folder.

    Raises:
        BadInputError: the configuration cannot be written.
        OSError: another file cannot.
    """
    write_whole(folder / MODEL_CONFIG, config_text(model.config))
    for name in (MONITORING_CONFIG, BATCHING_CONFIG):
        shutil.copyfile(FILES / name, folder / name)
