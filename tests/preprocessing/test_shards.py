"""One shard: written whole or not at all, done once, done anew when a clip changes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
from dataclasses import replace

import pytest
from audio_samples import clip_paths, encoded, tone, write_corpus

from datasets.reading import read_manifest
from preprocessing import storage
from preprocessing.errors import AutotagError
from preprocessing.examples import Example, read_records
from preprocessing.features import INCOMPLETE
from preprocessing.manifest import Shard, checksum
from preprocessing.settings import PreprocessSettings
from preprocessing.shards import RejectedClip, ShardRecord, finished, record_path, write_shard

GOOD = encoded(tone(0.2))
GOOD_TOO = encoded(0.5 * tone(0.2))
PATHS = [*clip_paths(4), "c/a-b-01-t-0-29.mp3", "d/a-b-02-t-0-29.mp3"]


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out" / ".shards").mkdir(parents=True)
    return tmp_path / "out"


def shard_of(folder, files) -> Shard:
    annotations = write_corpus(folder, files)
    settings = PreprocessSettings(split="folder", n_tags=3)
    return read_manifest(str(folder), str(annotations), settings).shards()[0]


@pytest.fixture
def shard(tmp_path):
    return shard_of(tmp_path, dict.fromkeys(PATHS, GOOD))


def ids(path) -> list[str]:
    with open(path, "rb") as file:
        return [
            Example.FromString(record).features.feature["clip_id"].bytes_list.value[0].decode()
            for record in read_records(file)
        ]


@contextlib.contextmanager
def files_no_longer_than(size: int):
    """What a full disk is to a writer, without filling one: writes beyond ``size`` bytes fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_shard_holds_its_clips_in_order_and_its_record_says_so(tmp_path, shard, out):
    record = write_shard(shard, str(tmp_path), str(out))
    assert ids(out / shard.name) == [clip.clip_id for clip in shard.clips]
    assert record == ShardRecord(
        shard.name,
        "train",
        shard.fingerprint,
        (out / shard.name).stat().st_size,
        4,
        {"guitar": 2, "slow": 1, "techno": 1},
        (),
    )
    assert finished(shard, str(out)) == record


def test_finished_shard_is_not_written_again(tmp_path, shard, out):
    write_shard(shard, str(tmp_path), str(out))
    before = (out / shard.name).stat().st_mtime_ns
    write_shard(shard, str(tmp_path), str(out))
    assert (out / shard.name).stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["cut", "gone", "no record", "broken record", "other clips"])
def test_shard_that_is_not_as_recorded_is_written_again(tmp_path, shard, out, damage):
    write_shard(shard, str(tmp_path), str(out))
    path, record = out / shard.name, out / ".shards" / (shard.name.removesuffix(".tfrecord") + ".json")
    bytes_before = path.read_bytes()
    wanted = shard
    if damage == "cut":
        path.write_bytes(bytes_before[:-1])
    elif damage == "gone":
        path.unlink()
    elif damage == "no record":
        record.unlink()
    elif damage == "broken record":
        record.write_text(record.read_text()[:-20])
    else:
        wanted = replace(shard, clips=shard.clips[1:])
    assert finished(wanted, str(out)) is None
    write_shard(wanted, str(tmp_path), str(out))
    assert finished(wanted, str(out)) is not None
    assert (path.read_bytes() == bytes_before) is (wanted is shard)


def test_bad_clips_are_rejected_with_reasons_and_the_others_written(tmp_path, out):
    files = dict.fromkeys(PATHS, GOOD) | dict(zip(PATHS, (b"", b"text" * 100, None), strict=False))
    shard = shard_of(tmp_path, files)
    seen = []
    record = write_shard(shard, str(tmp_path), str(out), seen.append)

    assert {(clip.clip_id, clip.reason) for clip in record.rejected} == {
        ("1", "empty: the file has no bytes"),
        ("2", "undecodable: Format not recognised."),
        ("3", "missing: there is no such file"),
    }
    assert ids(out / shard.name) == ["4"]
    assert record.tags == {"guitar": 1}
    assert len(seen) == 4
    assert seen.count(None) == 1
    assert record.final


@pytest.mark.parametrize("change", ["other bytes", "gone"])
def test_clip_that_changes_under_the_job_is_rejected_and_tried_again(tmp_path, shard, out, change):
    path = tmp_path / shard.clips[0].path
    if change == "gone":
        path.unlink()
    else:
        path.write_bytes(encoded(tone(0.3)))
    record = write_shard(shard, str(tmp_path), str(out))
    assert [clip.clip_id for clip in record.rejected] == [shard.clips[0].clip_id]
    assert record.rejected[0].reason.startswith("changed: ")
    assert not record.final

    path.write_bytes(GOOD)
    assert write_shard(shard, str(tmp_path), str(out)).rejected == ()


def test_full_disk_is_said_and_leaves_what_was_there(tmp_path, shard, out):
    with files_no_longer_than(2_000_000), pytest.raises(AutotagError, match=rf"{shard.name}: File too large"):
        write_shard(shard, str(tmp_path), str(out))
    assert [path.name for path in out.iterdir()] == [".shards"]

    write_shard(shard, str(tmp_path), str(out))
    before = (out / shard.name).read_bytes()
    changed = replace(shard, clips=shard.clips[:3])
    with files_no_longer_than(2_000_000), pytest.raises(AutotagError):
        write_shard(changed, str(tmp_path), str(out))
    assert (out / shard.name).read_bytes() == before
    assert finished(shard, str(out)) is not None


def test_attempt_that_is_killed_before_its_record_leaves_no_record_of_other_clips(tmp_path, shard, out, monkeypatch):
    write_shard(shard, str(tmp_path), str(out))
    changed = replace(shard, clips=(replace(shard.clips[0], checksum=checksum(GOOD_TOO)), *shard.clips[1:]))
    (tmp_path / shard.clips[0].path).write_bytes(GOOD_TOO)
    size = (out / shard.name).stat().st_size
    with monkeypatch.context() as killed:
        killed.setattr(storage, "write_whole", lambda path, data: os._exit(1))
        child = os.fork()
        if not child:
            with contextlib.suppress(Exception):
                write_shard(changed, str(tmp_path), str(out))
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert (out / shard.name).stat().st_size == size  # of the same size, so that it alone would not tell
    assert finished(shard, str(out)) is None
    assert finished(changed, str(out)) is None


def test_record_goes_there_and_back():
    record = ShardRecord("n", "train", "f", 1, 1, {"ü": 1}, (RejectedClip("1", "p", "r"),))
    assert ShardRecord.from_json(record.to_json()) == record
    assert json.loads(record.to_json())["rejected"][0]["reason"] == "r"


def test_record_lies_beside_the_shards():
    assert record_path("/out", "train-00000-of-00001.tfrecord") == "/out/.shards/train-00000-of-00001.json"


def features_of(path) -> list[set[str]]:
    with open(path, "rb") as file:
        return [set(Example.FromString(record).features.feature) for record in read_records(file)]


def test_clip_of_a_cut_file_is_an_example_that_says_so_and_whole_ones_have_no_such_feature(tmp_path, out):
    whole = encoded(tone(20.0))
    shard = shard_of(tmp_path, {**dict.fromkeys(PATHS, GOOD), PATHS[0]: whole[: len(whole) // 2]})
    record = write_shard(shard, str(tmp_path), str(out))
    assert (record.examples, record.rejected) == (4, ())
    (cut,) = record.incomplete
    assert (cut.path, cut.reason) == (PATHS[0], "10.0 of 20.0 s")
    assert [INCOMPLETE in features for features in features_of(out / shard.name)] == [
        clip.path == PATHS[0] for clip in shard.clips
    ]
    assert finished(shard, str(out)) == record


def test_clips_that_an_ffmpeg_might_decode_are_tried_again_where_there_is_one(tmp_path, out, monkeypatch):
    m4a = b"\0\0\0\x20ftypM4A " + bytes(500)
    shard = shard_of(tmp_path, {**dict.fromkeys(PATHS, GOOD), PATHS[0]: m4a})
    monkeypatch.setenv("PATH", str(tmp_path))
    record = write_shard(shard, str(tmp_path), str(out))
    assert record.rejected[0].reason.startswith("needs_ffmpeg: ")
    assert record.final

    ffmpeg = tmp_path / "ffmpeg"
    (tmp_path / "output").write_bytes(encoded(tone(0.5), 16_000, "AU", "FLOAT"))
    ffmpeg.write_text(f"#!/bin/sh\n/bin/cat '{tmp_path}/output'\n")
    ffmpeg.chmod(0o755)
    assert not record.final
    assert write_shard(shard, str(tmp_path), str(out)).rejected == ()
