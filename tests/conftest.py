"""Fixtures that several folders share. What is heavy is imported when a test first asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from built_once import built_once

from serving.engines.runtimes import usable_cores

if TYPE_CHECKING:
    from engine_model import EngineModel
    from exported_model import Exported

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


MOST_PROCESSES = 4


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests of the command line wait for the processes that they start."""
    return min(MOST_PROCESSES, usable_cores() + 1)


LONGEST_FIRST = ("end_to_end", "serving", "models")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin first, so that no process is left with one of them alone at the end."""
    folders = [*LONGEST_FIRST, ""]
    items.sort(key=lambda item: next(i for i, name in enumerate(folders) if name in item.path.parts or not name))


@pytest.fixture(scope="session")
def pushed_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a Pusher writes numbered versions to."""
    return tmp_path_factory.mktemp("pushed")


@pytest.fixture(scope="session")
def exported(pushed_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The three branches, untrained, with a combiner, as version 10 in ``pushed_dir``."""
    from exported_model import copied, export

    made = built_once(tmp_path_factory, "exported", lambda path: export(path, ("mel_1d", "mel_2d", "waveform_1d")))
    return copied(made, pushed_dir / "10")


@pytest.fixture(scope="session")
def model(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> EngineModel:
    """A copy of ``exported`` with the files of all engines, and what its networks say of three clips."""
    from engine_model import engine_model, write_engines

    engines = built_once(tmp_path_factory, "engines", lambda path: write_engines(exported.path, path))
    return engine_model(exported.path, engines)


@pytest.fixture(scope="session")
def loaded(exported: Exported) -> Any:
    import tensorflow as tf

    return tf.saved_model.load(str(exported.path))


@pytest.fixture(scope="session")
def clips() -> Any:
    """Two clips as stored, float32 [2, 465600]: a tone, and one of 11 s with silence behind it."""
    import numpy as np
    from exported_model import followed_by_silence, tone

    from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm

    return from_pcm(to_pcm(np.stack([fit_clip(tone(30)), fit_clip(followed_by_silence(tone(11, 880)))])))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A key and a certificate of localhost that signs itself, both PEM."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "chain.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    call = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
    subprocess.run([*call, "-keyout", str(key), "-out", str(chain)], check=True, capture_output=True)
    return key, chain
