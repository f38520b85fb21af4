"""gs:// through gcsfs, on the server of gcp-storage-emulator, which speaks Google Cloud Storage's JSON API here."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from audio_samples import clip_paths, encoded, tone, write_corpus
from folders import hashes

from datasets.reading import read_manifest
from preprocessing import storage
from preprocessing.beam.settings import BeamSettings
from preprocessing.job import run_job
from preprocessing.output_folder import plan_job
from preprocessing.settings import PreprocessSettings
from preprocessing.shards import write_shard

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (autotag[gcp])")
gcsfs = pytest.importorskip("gcsfs", reason="gcsfs is not installed (autotag[gcp])")
emulator = pytest.importorskip("gcp_storage_emulator.server", reason="gcp-storage-emulator is not installed")

SETTINGS = PreprocessSettings(split="folder", n_tags=3, shard_clips=12)
REMOTE = "gs://music/corpus"
OUT = "gs://music/out"
KEPT = 1 << 18
"""gcsfs sends smaller objects in one request, larger ones in a resumable upload."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of its own, as a process: the worker processes that Beam forks must not inherit its threads."""
    code = (
        "from gcp_storage_emulator.server import create_server\n"
        "with create_server('127.0.0.1', 0, in_memory=True) as server:\n"
        "    print(server._api._httpd.server_port, flush=True)\n"
        "    input()"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.communicate("\n", timeout=60)


@pytest.fixture
def store(address: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket `music`, seen through a client of its own."""
    httpx.get(f"{address}/wipe").raise_for_status()
    httpx.post(f"{address}/storage/v1/b", json={"name": "music"}).raise_for_status()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")  # which fsspec reads when it is imported: for Beam's workers
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    gcsfs.GCSFileSystem.clear_instance_cache()
    return gcsfs.GCSFileSystem(token="anon", endpoint_url=address, use_listings_cache=False)


@pytest.fixture
def corpus(store: Any, tmp_path: Path) -> Path:
    """A corpus on the server, and the same on this machine, preprocessed."""
    write_corpus(tmp_path, dict.fromkeys(clip_paths(32), encoded(tone(0.2))))
    store.put(f"{tmp_path}/", REMOTE, recursive=True)
    manifest = read_manifest(str(tmp_path), str(tmp_path / "annotations_final.csv"), SETTINGS)
    run_job(manifest, str(tmp_path), str(tmp_path / "out"), SETTINGS)
    return tmp_path


def remote_hashes(store: Any) -> dict[str, str]:
    paths = store.find(OUT)
    return {path.removeprefix("music/out/"): hashlib.sha256(store.cat_file(path)).hexdigest() for path in paths}


@pytest.mark.parametrize("workers", [1, 2])
def test_job_on_google_storage_writes_the_bytes_that_it_writes_locally(corpus: Path, store: Any, workers: int) -> None:
    manifest = read_manifest(REMOTE, f"{REMOTE}/annotations_final.csv", SETTINGS)
    summary = run_job(manifest, REMOTE, OUT, SETTINGS, BeamSettings(workers=workers).arguments())
    assert summary["clips"] == summary["examples"] == 32
    assert remote_hashes(store) == hashes(corpus / "out")
    assert max(store.info(path)["size"] for path in store.find(OUT)) > 12 * 1_000_000
    assert plan_job(manifest, OUT).clips_to_do == 0


def test_second_attempt_at_a_shard_reads_no_clip(corpus: Path, store: Any) -> None:
    manifest = read_manifest(REMOTE, f"{REMOTE}/annotations_final.csv", SETTINGS)
    shard = plan_job(manifest, OUT).to_do[0]
    first = write_shard(shard, REMOTE, OUT)
    assert write_shard(shard, "gs://nowhere", OUT) == first


@pytest.mark.parametrize("size", [10, 4 * KEPT])
def test_writer_that_fails_leaves_no_object_and_what_was_there(store: Any, size: int) -> None:
    path = f"{OUT}/file"

    def stop_in_the_middle() -> None:
        with storage.open_whole(path) as file:
            file.write(b"x" * size)
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop_in_the_middle()
    assert not storage.exists(path)
    storage.write_whole(path, "before")
    with pytest.raises(RuntimeError, match="stopped"):
        stop_in_the_middle()
    assert storage.read_bytes(path) == b"before"


def test_bucket_that_is_not_there_is_said(store: Any) -> None:
    with pytest.raises(FileNotFoundError, match="there is no bucket elsewhere"):
        storage.make_folder("gs://elsewhere/out")
