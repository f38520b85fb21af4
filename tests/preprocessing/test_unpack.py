"""A zip archive in parts: joined reading, checked members, nothing outside the folder."""

from __future__ import annotations

import io
import os
import random
import re
import zipfile
from pathlib import Path

import pytest
from folders import unpacked

from preprocessing.errors import AutotagError
from preprocessing.unpack import JoinedParts, unpack

WANTED = re.compile(r"[0-9a-f]/[^/\\\0]+\.mp3")
MEMBERS = {f"{folder}/artist-album-01-title-{n}-{n + 29}.mp3": os.urandom(2000) for folder in "0f" for n in range(4)}
MEMBERS["f/empty-0-29.mp3"] = b""


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def in_parts(data: bytes, folder: Path, cuts: tuple[int, ...]) -> list[Path]:
    edges = [0, *cuts, len(data)]
    paths = [folder / f"mp3.zip.{index:03d}" for index in range(1, len(edges))]
    for path, start, end in zip(paths, edges, edges[1:], strict=False):
        path.write_bytes(data[start:end])
    return paths


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    return in_parts(zipped(MEMBERS), tmp_path, (7000, 14000))


@pytest.mark.parametrize("cuts", [(), (1,), (10, 10, 50), (0, 99), (100,)])
def test_joined_parts_read_like_one_file(tmp_path: Path, cuts: tuple[int, ...]) -> None:
    data, chance = os.urandom(100), random.Random(3)
    with JoinedParts(in_parts(data, tmp_path, cuts)) as joined:
        file = io.BufferedReader(joined, 7)
        assert file.read() == data
        for _ in range(200):
            start, count = chance.randrange(110), chance.randrange(60)
            file.seek(start)
            assert file.read(count) == data[start : start + count]
        assert file.seek(-5, io.SEEK_END) == 95
        assert file.read() == data[95:]


def test_bytes_are_traced_to_their_parts(tmp_path: Path) -> None:
    with JoinedParts(in_parts(b"0123456789", tmp_path, (4, 8))) as joined:
        assert joined.parts_of(0, 4) == ["mp3.zip.001"]
        assert joined.parts_of(3, 5) == ["mp3.zip.001", "mp3.zip.002"]
        assert joined.parts_of(8, 99) == ["mp3.zip.003"]


def test_members_are_unpacked_and_a_second_call_writes_none(parts: list[Path], tmp_path: Path) -> None:
    assert unpack(parts, tmp_path, WANTED).written == len(MEMBERS)
    assert unpacked(tmp_path) == MEMBERS
    again = unpack(parts, tmp_path, WANTED)
    assert (again.written, again.kept) == (0, len(MEMBERS))


def test_missing_short_and_altered_members_are_written_again(parts: list[Path], tmp_path: Path) -> None:
    unpack(parts, tmp_path, WANTED)
    names = list(MEMBERS)
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(MEMBERS[names[1]][:-1])
    (tmp_path / names[2]).write_bytes(MEMBERS[names[2]][::-1])
    assert unpack(parts, tmp_path, WANTED).written == 3
    assert unpacked(tmp_path) == MEMBERS


def test_what_a_killed_call_left_is_replaced(parts: list[Path], tmp_path: Path) -> None:
    name = next(iter(MEMBERS))
    (tmp_path / name).parent.mkdir()
    (tmp_path / f"{name}.part").write_bytes(b"half")
    unpack(parts, tmp_path, WANTED)
    assert unpacked(tmp_path) == MEMBERS


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_damaged_part_is_named_with_its_member_and_the_rest_is_unpacked(tmp_path: Path, compression: int) -> None:
    parts = in_parts(zipped(MEMBERS, compression), tmp_path, (7000, 14000))
    good = bytearray(parts[1].read_bytes())
    good[3000:3010] = b"\0" * 10
    parts[1].write_bytes(good)
    with pytest.raises(AutotagError, match=r"1 members .* [0f]/artist.*\.mp3 .*Delete \S+/mp3.zip.002 and") as caught:
        unpack(parts, tmp_path, WANTED)
    there = unpacked(tmp_path)
    assert len(there) == len(MEMBERS) - 1
    assert all(MEMBERS[name] == data for name, data in there.items())
    assert "mp3.zip.001" not in str(caught.value)


def test_part_of_wrong_length_is_an_error_not_a_crash(parts: list[Path], tmp_path: Path) -> None:
    parts[0].write_bytes(parts[0].read_bytes()[:-50])
    with pytest.raises(AutotagError, match="mp3.zip.001"):
        unpack(parts, tmp_path, WANTED)
    assert all(MEMBERS[name] == data for name, data in unpacked(tmp_path).items())


@pytest.mark.parametrize("seed", range(8))
def test_no_damage_ends_in_a_crash_or_in_wrong_clips(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(zipped(MEMBERS))
    for _ in range(30):
        data[chance.randrange(len(data))] = chance.randrange(256)
    parts = in_parts(bytes(data), tmp_path, (7000, 14000))
    with pytest.raises(AutotagError):
        unpack(parts, tmp_path, WANTED)
    assert all(MEMBERS.get(name) in (data, None) for name, data in unpacked(tmp_path).items())


def test_archive_without_directory_names_the_last_part(parts: list[Path], tmp_path: Path) -> None:
    parts[2].write_bytes(b"")
    with pytest.raises(AutotagError, match=r"do not make a zip archive .*delete mp3.zip.003"):
        unpack(parts, tmp_path, WANTED)


def test_nothing_is_written_outside_the_clip_folders(tmp_path: Path) -> None:
    evil = ["../evil.mp3", "/tmp/evil.mp3", "0/../../evil.mp3", "annotations_final.csv", "0/a/b.mp3", "0\\..\\e.mp3"]
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    parts = in_parts(zipped({**dict.fromkeys(evil, b"evil"), "0/..mp3": b"fine"}), tmp_path, ())
    result = unpack(parts, folder, WANTED)
    assert result.written == 1
    assert len(result.unwanted) >= 5
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] in (
        ["mp3.zip.001", "..mp3"],
        ["..mp3", "mp3.zip.001"],
    )


def test_disk_too_small_is_said_before_anything_is_written(
    parts: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("preprocessing.unpack.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(AutotagError, match=r"has 1.0 kB free, 16.0 kB are needed \(16.0 kB to unpack\)"):
        unpack(parts, tmp_path, WANTED)
    assert unpacked(tmp_path) == {}
