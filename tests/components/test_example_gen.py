"""ClipExampleGen by itself: TFX's real artifacts, Beam's direct runner, real audio files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from audio_samples import clip_paths, encoded, tone, write_corpus
from folders import hash_of
from tfx.types import artifact_utils, standard_artifacts

from components.example_gen import (
    ANY_VERSION,
    ClipExampleGen,
    ClipExampleGenExecutor,
    _progress_log,
    link_or_copy,
    read_manifest,
)
from datasets.reading import read_manifest as read_data
from preprocessing.clip_format import ClipFormat
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.examples import Example, read_records
from preprocessing.settings import PreprocessSettings

SETTINGS = PreprocessSettings(split="folder", n_tags=3, shard_clips=8, clip=ClipFormat(16_000, 3200))
Execute = Callable[..., standard_artifacts.Examples]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """32 clips, two of them unusable."""
    paths = clip_paths(32)
    files: dict[str, bytes | None] = dict.fromkeys(paths, encoded(tone(0.2)))
    write_corpus(tmp_path / "clips", {**files, paths[3]: b"", paths[5]: None})
    return tmp_path / "clips"


@pytest.fixture
def execute(corpus: Path, tmp_path: Path) -> Execute:
    """Run the component's executor as TFX does; returns the Examples artifact."""

    def run(number: int, **changes: Any) -> standard_artifacts.Examples:
        examples = standard_artifacts.Examples()
        examples.uri = str(tmp_path / "artifacts" / str(number))
        properties = {
            "data_version": ANY_VERSION,
            "audio_dir": str(corpus),
            "annotations": str(corpus / "annotations_final.csv"),
            "settings": json.dumps(asdict(SETTINGS)),
            "work_dir": str(tmp_path / "shards"),
            "code": "1234",
            **changes,
        }
        ClipExampleGenExecutor().Do({}, {"examples": [examples]}, properties)
        return examples

    return run


def shards(examples: standard_artifacts.Examples) -> dict[str, Path]:
    return {path.name: path for path in Path(examples.uri).glob("Split-*/*.tfrecord")}


def test_artifact_has_three_splits_with_every_usable_clip_once(execute: Execute, corpus: Path) -> None:
    examples = execute(1)
    assert artifact_utils.decode_split_names(examples.split_names) == ["train", "valid", "test"]
    counts = {name: examples.get_int_custom_property(name) for name in ("clips", "examples", "rejected")}
    assert counts == {"clips": 32, "examples": 30, "rejected": 2}
    found: list[str] = []
    for name, path in shards(examples).items():
        assert path.parent.name == f"Split-{name.partition('-')[0]}"
        with path.open("rb") as file:
            for record in read_records(file):
                features = Example.FromString(record).features.feature
                found.append(features["clip_id"].bytes_list.value[0].decode())
                assert len(features["waveform"].bytes_list.value[0]) == 2 * SETTINGS.clip.samples
    assert sorted(map(int, found)) == [number for number in range(1, 33) if number not in (4, 6)]
    rejected = (Path(examples.uri) / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["clip_id"] for line in rejected] == ["4", "6"]
    assert json.loads((Path(examples.uri) / "summary.json").read_text())["examples"] == 30
    assert len((Path(examples.uri) / "tags.txt").read_text().splitlines()) == 3


def test_next_execution_links_the_shards_that_are_there_and_makes_none(execute: Execute, tmp_path: Path) -> None:
    first = shards(execute(1))
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "shards" / "1234").glob("*.tfrecord")}
    second = shards(execute(2))
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert second.keys() == first.keys()
    for name, path in second.items():
        assert os.path.samefile(path, tmp_path / "shards" / "1234" / name)
    other = shards(execute(3, code="5678"))
    assert {name: hash_of(path) for name, path in other.items()} == {
        name: hash_of(path) for name, path in first.items()
    }
    assert not any(os.path.samefile(other[name], first[name]) for name in first)


def test_clip_that_changed_while_it_was_read_fails_the_execution(execute: Execute, corpus: Path) -> None:
    manifest = read_data(str(corpus), str(corpus / "annotations_final.csv"), SETTINGS)
    path = corpus.parent / "manifest.json"
    path.write_text(manifest.to_json())
    (corpus / clip_paths(32)[0]).write_bytes(encoded(tone(0.2, hz=880)))
    with pytest.raises(AutotagError, match="1 clips changed while they were read; run again"):
        execute(1, manifest=str(path))
    assert not (corpus.parent / "artifacts").exists()


def test_manifest_of_the_run_is_taken_and_not_made_again(execute: Execute, corpus: Path) -> None:
    settings = PreprocessSettings(**{**asdict(SETTINGS), "clip": SETTINGS.clip, "n_tags": 2})
    manifest = read_data(str(corpus), str(corpus / "annotations_final.csv"), settings)
    (corpus.parent / "manifest.json").write_text(manifest.to_json())
    (corpus / "annotations_final.csv").unlink()
    examples = execute(1, manifest=str(corpus.parent / "manifest.json"))
    assert (Path(examples.uri) / "tags.txt").read_text().split() == list(manifest.tags)
    assert len(manifest.tags) == 2


def test_data_of_another_version_than_was_asked_for_are_refused(corpus: Path) -> None:
    there = read_data(str(corpus), str(corpus / "annotations_final.csv"), SETTINGS).fingerprint
    asked = {"audio_dir": str(corpus), "annotations": str(corpus / "annotations_final.csv"), "data_version": there}
    assert read_manifest(asked, SETTINGS).fingerprint == there
    assert read_manifest({**asked, "data_version": ANY_VERSION}, SETTINGS).fingerprint == there
    (corpus / clip_paths(32)[0]).write_bytes(encoded(tone(0.2, hz=880)))
    with pytest.raises(AutotagError, match=f"and version {there} was asked for: they changed since the run"):
        read_manifest(asked, SETTINGS)
    with pytest.raises(BadInputError, match="none.csv"):
        read_manifest({**asked, "annotations": str(corpus / "none.csv")}, SETTINGS)


def test_file_is_copied_where_it_cannot_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, linked, copied = tmp_path / "a", tmp_path / "x" / "linked", tmp_path / "y" / "copied"
    source.write_bytes(b"shard")
    copied.parent.mkdir()
    copied.write_bytes(b"of an execution that was killed")
    link_or_copy(str(source), str(linked))
    assert os.path.samefile(source, linked)

    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(str(source), str(copied))
    assert copied.read_bytes() == b"shard"
    assert not os.path.samefile(source, copied)


def test_progress_is_logged_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr("components.example_gen.time.monotonic", lambda: now[0])
    on_progress = _progress_log(500)
    for seconds, done in ((3, 10), (11, 110), (15, 150), (22, 264)):
        now[0] = 100.0 + seconds
        on_progress(done)
    assert [record.getMessage() for record in caplog.records] == [
        "110 of 500 clips, 10 a second",
        "264 of 500 clips, 12 a second",
    ]


def test_component_declares_what_a_cached_execution_depends_on() -> None:
    given = {name: name for name in ("data_version", "audio_dir", "annotations", "settings", "work_dir", "code")}
    component = ClipExampleGen(manifest=None, **given)
    assert component.exec_properties == {"manifest": None, **given}
    assert component.inputs == {}
    assert component.outputs["examples"].type is standard_artifacts.Examples
    assert ClipExampleGen(manifest="m.json", **given).exec_properties["manifest"] == "m.json"
