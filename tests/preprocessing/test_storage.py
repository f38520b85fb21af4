"""Files appear under their final name whole or not at all: locally, on HDFS and its like, and on object stores.

S3 is moto's server, which speaks S3's protocol on this machine; its tests are skipped where it or s3fs is missing.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from audio_samples import clip_paths, encoded, tone, write_corpus
from folders import hashes

from datasets.reading import read_manifest
from preprocessing import storage
from preprocessing.beam.settings import BeamSettings
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.job import run_job
from preprocessing.output_folder import plan_job
from preprocessing.settings import PreprocessSettings
from preprocessing.shards import finished, write_shard

GOOD = encoded(tone(0.2))
SETTINGS = PreprocessSettings(split="folder", n_tags=3, shard_clips=12)
BUCKET = "music"


class StoppedError(Exception):
    """What stops a writer in the middle."""


def stop_in_the_middle(path: str) -> None:
    with storage.open_whole(path) as file:
        file.write(b"half")
        raise StoppedError


def test_local_file_appears_when_it_is_whole(tmp_path):
    path = str(tmp_path / "file")
    with storage.open_whole(path) as file:
        file.write(b"half")
        file.flush()
        assert not os.path.exists(path)
        file.write(b" whole")
    assert storage.read_bytes(path) == b"half whole"
    assert os.listdir(tmp_path) == ["file"]


def test_local_writer_that_fails_leaves_what_was_there(tmp_path):
    path = str(tmp_path / "file")
    storage.write_whole(path, "before")
    with pytest.raises(StoppedError):
        stop_in_the_middle(path)
    assert storage.read_bytes(path) == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_what_dead_writers_left_is_swept_and_a_living_writers_file_is_kept(tmp_path):
    path = str(tmp_path / "file")
    code = "import sys; from preprocessing import storage; print(storage.temporary_name(sys.argv[1]))"
    dead = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout.strip()
    alive, elsewhere = storage.temporary_name(path), f"{tmp_path}/.file{storage.TEMPORARY_MARK}other-host-1-2"
    for name in (dead, alive, elsewhere):
        Path(name).write_bytes(b"half")
    storage.sweep_dead(str(tmp_path))
    assert sorted(tmp_path.iterdir()) == sorted(map(Path, (alive, elsewhere)))
    storage.sweep(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_path_of_an_unknown_scheme_is_bad_input():
    with pytest.raises(BadInputError, match=r"stork://nest/egg: "):
        storage.check_scheme("stork://nest/egg")


def test_scheme_whose_package_is_missing_says_which(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(BadInputError, match=r"s3://a/b: s3:// needs a package .*pip install 'autotag\[aws\]'"):
        storage.check_scheme("s3://a/b")


@pytest.fixture
def folders(tmp_path):
    """A file system as HDFS is: a file is seen while it is written, and rename replaces nothing."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed (autotag[hdfs])")
    from fsspec.implementations.local import LocalFileSystem

    class Folders(LocalFileSystem):
        protocol = "folders"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.removeprefix("folders://"))

        def mv(self, path1, path2, **_):
            if os.path.exists(path2):
                raise OSError(f"{path2} is there")
            os.rename(path1, path2)

    fsspec.register_implementation("folders", Folders, clobber=True)
    return f"folders://{tmp_path}"


def test_file_on_hdfs_is_renamed_when_it_is_whole_and_replaces_the_one_before(folders, tmp_path):
    for content in (b"first", b"second"):
        with storage.open_whole(f"{folders}/file") as file:
            file.write(content)
        assert storage.read_bytes(f"{folders}/file") == content
    assert os.listdir(tmp_path) == ["file"]
    with pytest.raises(StoppedError):
        stop_in_the_middle(f"{folders}/file")
    assert os.listdir(tmp_path) == ["file"]


def test_file_on_hdfs_is_never_deleted_before_the_new_one_has_its_name(folders, tmp_path, monkeypatch):
    """At every step of a replacement some whole file is there, and a rename that fails leaves the earlier one."""
    fsspec = pytest.importorskip("fsspec")
    file_system = fsspec.get_filesystem_class("folders")
    storage.write_whole(f"{folders}/file", "before")
    steps, mv, rm_file = [], file_system.mv, file_system.rm_file

    def there() -> list[str]:
        return sorted(path.read_text() for path in tmp_path.iterdir())

    def watched_mv(self, path1, path2, **options):
        mv(self, path1, path2, **options)
        steps.append(there())

    def watched_rm(self, path):
        rm_file(self, path)
        steps.append(there())

    monkeypatch.setattr(file_system, "mv", watched_mv)
    monkeypatch.setattr(file_system, "rm_file", watched_rm)
    storage.write_whole(f"{folders}/file", "new")
    assert steps == [["before", "new"], ["before", "new"], ["new"]]

    def failing_mv(self, path1, path2, **options):
        if Path(path1).read_text() == "newest":
            raise OSError("the name node does not answer")
        mv(self, path1, path2, **options)

    monkeypatch.setattr(file_system, "mv", failing_mv)
    with pytest.raises(OSError, match="name node"):
        storage.write_whole(f"{folders}/file", "newest")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "new"}


def test_of_two_writers_on_hdfs_one_whole_file_is_left(folders, tmp_path):
    storage.write_whole(f"{folders}/file", "before")
    with storage.open_whole(f"{folders}/file") as first:
        first.write(b"first")
        storage.write_whole(f"{folders}/file", "second")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "first"}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: storage.write_whole(f"{folders}/file", f"writer {k}"), range(40)))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text().startswith("writer ")


def test_job_on_hdfs_writes_the_bytes_that_it_writes_locally(folders, tmp_path):
    write_corpus(tmp_path, dict.fromkeys(clip_paths(32), GOOD))
    local, remote = str(tmp_path), folders
    run_job(manifest_of(local), local, f"{local}/one", SETTINGS)
    run_job(manifest_of(remote), remote, f"{remote}/two", SETTINGS)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def manifest_of(folder: str):
    return read_manifest(folder, f"{folder}/annotations_final.csv", SETTINGS)


@pytest.fixture(scope="module")
def s3_server():
    server = pytest.importorskip("moto.server", reason="moto is not installed (moto[s3,server])")
    pytest.importorskip("s3fs", reason="s3fs is not installed (autotag[aws])")
    started = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """An empty bucket that keeps versions, and boto3's client to look at it from outside."""
    import boto3
    import s3fs

    environment = {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield client
    for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
        client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
    versions = client.list_object_versions(Bucket=BUCKET)
    for item in [*versions.get("Versions", []), *versions.get("DeleteMarkers", [])]:
        client.delete_object(Bucket=BUCKET, Key=item["Key"], VersionId=item["VersionId"])
    client.delete_bucket(Bucket=BUCKET)


def keys(client, prefix: str) -> dict[str, int]:
    """Key below a prefix that is there -> how often it was written."""
    versions = client.list_object_versions(Bucket=BUCKET, Prefix=prefix).get("Versions", [])
    there = {version["Key"] for version in versions if version["IsLatest"]}
    counts = Counter(version["Key"].removeprefix(prefix) for version in versions if version["Key"] in there)
    return dict(counts)


@pytest.fixture
def corpus(s3, tmp_path):
    """A corpus on the server, and the same on this machine, preprocessed."""
    write_corpus(tmp_path, dict.fromkeys(clip_paths(32), GOOD))
    for path in tmp_path.rglob("*.*"):
        if path.is_file():
            s3.upload_file(str(path), BUCKET, f"corpus/{path.relative_to(tmp_path)}")
    run_job(manifest_of(str(tmp_path)), str(tmp_path), str(tmp_path / "out"), SETTINGS)
    return tmp_path


REMOTE = f"s3://{BUCKET}/corpus"
OUT = f"s3://{BUCKET}/out"


def remote_hashes(client, prefix: str) -> dict[str, str]:
    return {
        key: hashlib.sha256(client.get_object(Bucket=BUCKET, Key=prefix + key)["Body"].read()).hexdigest()
        for key in keys(client, prefix)
    }


@pytest.mark.parametrize("workers", [1, 2])
def test_job_on_s3_writes_the_bytes_that_it_writes_locally_each_object_once(corpus, s3, workers):
    manifest = manifest_of(REMOTE)
    seen: list[int] = []
    summary = run_job(manifest, REMOTE, OUT, SETTINGS, BeamSettings(workers=workers).arguments(), seen.append)
    assert summary["examples"] == 32
    assert seen[-1] == 32
    expected = hashes(corpus / "out")
    assert remote_hashes(s3, "out/") == expected
    assert set(keys(s3, "out/").values()) == {1}
    assert plan_job(manifest, OUT).clips_to_do == 0
    run_job(manifest, REMOTE, OUT, SETTINGS)
    assert {key: n for key, n in keys(s3, "out/").items() if key.endswith(".tfrecord")} == dict.fromkeys(
        (key for key in expected if key.endswith(".tfrecord")), 1
    )


def test_writer_that_fails_leaves_no_object(s3):
    with pytest.raises(StoppedError):
        stop_in_the_middle(f"{OUT}/file")
    assert keys(s3, "") == {}
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_upload_that_fails_leaves_no_object_and_what_was_there(s3, monkeypatch):
    import s3fs

    storage.write_whole(f"{OUT}/file", "before")
    call = s3fs.S3FileSystem._call_s3

    async def failing(self, method, *arguments, **named):
        if method == "upload_part" and named["PartNumber"] == 2:
            raise OSError("connection lost")
        return await call(self, method, *arguments, **named)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", failing)
    with pytest.raises(OSError, match="connection lost"), storage.open_whole(f"{OUT}/file") as file:
        file.write(bytes(120 << 20))
    assert storage.read_bytes(f"{OUT}/file") == b"before"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_two_attempts_at_one_shard_end_in_one_whole_object(corpus, s3):
    shard = manifest_of(REMOTE).shards()[0]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(write_shard, shard, REMOTE, OUT) for _ in range(2))
        assert first.result() == second.result() == finished(shard, OUT)
    assert storage.read_bytes(f"{OUT}/{shard.name}") == (corpus / "out" / shard.name).read_bytes()
    assert write_shard(shard, "s3://nowhere", OUT) == first.result()  # there already: costs nothing, reads no clip


def test_killed_uploads_of_the_job_are_swept_and_others_are_left(corpus, s3):
    for key in ("out/train-00000-of-00003.tfrecord", "out/.shards/x.json", "elsewhere/file", "outside"):
        s3.create_multipart_upload(Bucket=BUCKET, Key=key)
    run_job(manifest_of(REMOTE), REMOTE, OUT, SETTINGS)
    left = [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]]
    assert sorted(left) == ["elsewhere/file", "outside"]


def test_killed_uploads_are_swept_where_the_bucket_itself_is_the_folder(s3):
    for key in ("file", "folder/file"):
        s3.create_multipart_upload(Bucket=BUCKET, Key=key)
    storage.sweep(f"s3://{BUCKET}")
    assert [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["folder/file"]


def test_writer_that_is_killed_leaves_nothing_on_this_machine(s3, tmp_path):
    code = """
import os, signal, sys
from preprocessing import storage
with storage.open_whole(sys.argv[1]) as file:
    file.write(bytes(3 << 20))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code, f"{OUT}/file"], env=environment)
    assert done.returncode == -signal.SIGKILL
    assert not list(tmp_path.iterdir())
    assert keys(s3, "") == {}


def test_job_that_another_one_disturbed_on_s3_is_refused_in_words_and_takes_nothing_away(corpus, s3):
    manifest = manifest_of(REMOTE)
    smaller = PreprocessSettings(split="folder", n_tags=3, shard_clips=4)
    other = read_manifest(REMOTE, f"{REMOTE}/annotations_final.csv", smaller)

    def disturb(done: int) -> None:
        if done == len(manifest.clips):
            write_shard(other.shards()[0], REMOTE, OUT)

    with pytest.raises(AutotagError, match=f"{OUT}: another autotag .* wrote there meanwhile .train-00000-of-"):
        run_job(manifest, REMOTE, OUT, SETTINGS, on_progress=disturb)
    assert finished(other.shards()[0], OUT)
    assert plan_job(manifest, OUT).clips_to_do == 0
    run_job(manifest, REMOTE, OUT, SETTINGS)
    assert remote_hashes(s3, "out/") == hashes(corpus / "out")


def test_clip_that_is_missing_or_empty_on_s3_is_rejected(corpus, s3):
    missing, empty = clip_paths(32)[:2]
    s3.delete_object(Bucket=BUCKET, Key=f"corpus/{missing}")
    s3.put_object(Bucket=BUCKET, Key=f"corpus/{empty}", Body=b"")
    summary = run_job(manifest_of(REMOTE), REMOTE, OUT, SETTINGS)
    assert summary["rejected_by_reason"] == {"empty": 1, "missing": 1}
    assert summary["examples"] == 30


def test_bucket_or_folder_that_is_not_there_is_bad_input(corpus, s3):
    with pytest.raises(BadInputError, match="there is no bucket nowhere"):
        run_job(manifest_of(REMOTE), REMOTE, "s3://nowhere/out", SETTINGS)
    with pytest.raises(BadInputError, match=f"audio folder s3://{BUCKET}/no: there is no such folder"):
        read_manifest(f"s3://{BUCKET}/no", f"{REMOTE}/annotations_final.csv", SETTINGS)
    with pytest.raises(BadInputError, match="annotations s3://.*no.csv"):
        read_manifest(REMOTE, f"{REMOTE}/no.csv", SETTINGS)
