"""Paths that TensorFlow takes for patterns, a locked metadata file, cut TFRecords: one line that says what to do."""

from __future__ import annotations

import contextlib
import gzip
import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_runner import invoke

from pipeline.paths import check_paths
from pipeline.runs import metadata
from pipeline.runs.broken_records import broken_records_error
from pipeline.runs.metadata import check_server, open_store
from pipeline.settings.config import PipelineConfig, load_config
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.examples import record_damage, write_record


@pytest.mark.parametrize("name", ["live [a]", "best*", "what?", "back\\slash"])
def test_root_that_tensorflow_takes_for_a_pattern_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    result = invoke("run", "--set", f"root={tmp_path / name}")
    assert isinstance(result.exception, BadInputError)
    assert f"root {tmp_path / name}: TensorFlow takes" in str(result.exception)
    assert "\n" not in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_folder_above_a_relative_root_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "[a]").mkdir()
    monkeypatch.chdir(tmp_path / "[a]")
    with pytest.raises(BadInputError, match="for a pattern"):
        check_paths(load_config(None, ["root=run"]))


def test_other_paths_may_have_any_character_that_is_text() -> None:
    check_paths(load_config(None, ["root=/a,b {c} %d #1 & 'q' é\u3000", "push_dir=/p [1]*", "data.audio_dir=/m?[a]"]))
    for setting in ("root", "push_dir", "data.audio_dir"):
        with pytest.raises(BadInputError, match=f"{setting} /caf.*no UTF-8"):
            check_paths(load_config(None, [f"{setting}=/caf\udce9"]))
    with pytest.raises(BadInputError, match="root is empty"):
        check_paths(load_config(None, ["root="]))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE t (x)")
        database.execute("BEGIN EXCLUSIVE")
        yield


def test_metadata_that_another_program_has_locked_is_named_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "LOCK_SECONDS", 0.1)
    config = PipelineConfig(root=str(tmp_path))
    with locked(tmp_path / "metadata.sqlite"):
        for use in (open_store, check_server):
            with pytest.raises(AutotagError, match=r"metadata\.sqlite is locked by another program.*fuser.*call again"):
                use(config)


def test_metadata_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "metadata.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(AutotagError, match=r"metadata\.sqlite is damaged or no database.*put back a copy"):
        check_server(PipelineConfig(root=str(tmp_path)))


RECORDS = (b"first", b"second" * 100, b"third")


def written(path: Path) -> bytes:
    buffer = io.BytesIO()
    for record in RECORDS:
        write_record(buffer, record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(buffer.getvalue()) if path.suffix == ".gz" else buffer.getvalue())
    return path.read_bytes()


@pytest.mark.parametrize("name", ["train-00000-of-00001.tfrecord", "examples-00000-of-00001.gz"])
def test_record_file_is_whole_or_said_where_it_ends(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    data = written(path)
    assert record_damage(path) is None
    assert record_damage(path, every_byte=True) is None
    for cut in (len(data) - 1, len(data) - 5, 30, 5):
        path.write_bytes(data[:cut])
        assert f"in a file of {cut:,} bytes" in (record_damage(path) or "")


def test_changed_byte_is_found_by_checksum(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    data = bytearray(written(path))
    data[40] ^= 1
    path.write_bytes(data)
    assert record_damage(path) is None
    assert "wrong or cut record after 1 whole records" in (record_damage(path, every_byte=True) or "")


@pytest.mark.parametrize(
    "said",
    [
        RuntimeError("DataLossError: truncated record at 300 failed with Read less bytes than requested"),
        ValueError("Not a valid TFRecord. Fewer than 12 bytes: b''"),
    ],
)
def test_cut_shard_behind_a_failed_node_is_named_with_what_to_delete(tmp_path: Path, said: Exception) -> None:
    whole = tmp_path / "Transform" / "transformed_examples" / "3" / "Split-train" / "t-00000-of-00001.gz"
    cut = tmp_path / "ClipExampleGen" / "examples" / "1" / "Split-train" / "train-00000-of-00001.tfrecord"
    written(whole)
    cut_bytes = written(cut)[:-3]
    cut.write_bytes(cut_bytes)
    error = broken_records_error("Transform", said, str(tmp_path))
    assert f"Transform: {cut} is damaged" in str(error)
    assert f"Delete the folder {cut.parent.parent} and run again" in str(error)
    assert broken_records_error("Transform", RuntimeError("something else"), str(tmp_path)) is None


def test_export_refuses_examples_that_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(written(path)[:-1])
    (tmp_path / "model").mkdir()
    result = invoke("export", "--onnx", tmp_path / "out", "--examples", path, "--model", tmp_path / "model")
    assert result.exception is not None
    assert isinstance(result.exception, BadInputError)
