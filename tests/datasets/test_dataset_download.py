"""``autotag download`` of data sets with lists, zips and tars, from a real server: checked, resumed, unpacked once."""

from __future__ import annotations

import hashlib
import io
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command_runner import invoke
from file_server import FileServer, serve
from published_layouts import SAMPLES, write_text

from datasets.dataset import Dataset, Remote
from datasets.download import download, parse_list
from datasets.registry import DATASETS, find_dataset
from preprocessing.download import Patience
from preprocessing.errors import AutotagError, BadInputError

QUICK = Patience(attempts=2, first_wait=0.001, longest_wait=0.002)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve() as told:
        yield told


def sha(data: bytes, algorithm: str = "sha256") -> str:
    return hashlib.new(algorithm, data).hexdigest()


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: dict[str, bytes], link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(info)
    return buffer.getvalue()


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def fma(server: FileServer, tmp_path: Path) -> Dataset:
    """FMA small, whose metadata and audio are the sample's, on the server."""
    (sample,) = (one for one in SAMPLES if one.name == "fma-small")
    sample.write(tmp_path / "whole")
    files = files_below(tmp_path / "whole")
    archives = {
        "fma_metadata.zip": zipped({name: data for name, data in files.items() if name.startswith("fma_metadata")}),
        "fma_small.zip": zipped(
            {name: data for name, data in files.items() if name.startswith("fma_small")}
            | {"fma_small/checksums": b"x", "fma_small/../../evil.mp3": b"x"}
        ),
    }
    server.files = dict(archives)
    remotes = tuple(
        replace(remote, url=f"{server.url}/{remote.name}", digest=f"sha1:{sha(archives[remote.name], 'sha1')}")
        for remote in find_dataset("fma").remotes_of("small")
    )
    return replace(find_dataset("fma"), remotes=remotes)


def test_zips_are_checked_and_unpacked_and_what_they_hold_of_others_is_named(fma: Dataset, tmp_path: Path) -> None:
    found = download(fma, tmp_path / "fma", "small", patience=QUICK)
    expected = files_below(tmp_path / "whole")
    there = files_below(tmp_path / "fma")
    assert {name: there[name] for name in expected} == expected
    assert found.unwanted == ("fma_small/checksums", "fma_small/../../evil.mp3")
    assert not list(tmp_path.rglob("evil.mp3"))
    assert (found.on_disk.annotated, found.on_disk.found) == (10, 10)


def test_cut_download_goes_on_and_a_second_call_asks_for_nothing(
    fma: Dataset, server: FileServer, tmp_path: Path
) -> None:
    server.cuts = [100, 3_000]
    notes: list[str] = []
    download(fma, tmp_path / "fma", "small", patience=QUICK, on_note=notes.append)
    assert any("next attempt" in note for note in notes)
    asked = len(server.gets)
    download(fma, tmp_path / "fma", "small", patience=QUICK, on_note=notes.append)
    assert len(server.gets) == asked
    assert notes[-1] == "fma_small.zip: unpacked before"


def test_deleted_archive_is_asked_for_again_only_where_one_of_its_files_is_gone(
    fma: Dataset, server: FileServer, tmp_path: Path
) -> None:
    download(fma, tmp_path / "fma", "small", patience=QUICK, delete_archives=True)
    assert not list((tmp_path / "fma").glob("*.zip"))
    download(fma, tmp_path / "fma", "small", patience=QUICK, delete_archives=True)
    assert len(server.gets) == 2
    next((tmp_path / "fma" / "fma_small").rglob("*.mp3")).unlink()
    found = download(fma, tmp_path / "fma", "small", patience=QUICK, delete_archives=True)
    assert [name for name, *_ in server.gets[2:]] == ["fma_small.zip"]
    assert found.on_disk.missing == ()


def test_other_bytes_than_the_publishers_are_refused(fma: Dataset, server: FileServer, tmp_path: Path) -> None:
    server.files["fma_metadata.zip"] = zipped({"fma_metadata/tracks.csv": b"other"})
    with pytest.raises(AutotagError, match=r"fma_metadata.zip: its sha1 is [0-9a-f]{40}, published is"):
        download(fma, tmp_path / "fma", "small", patience=QUICK)
    assert not (tmp_path / "fma" / "fma_metadata").exists()


def test_archive_that_somebody_put_there_is_checked_too(fma: Dataset, tmp_path: Path) -> None:
    (tmp_path / "fma").mkdir()
    (tmp_path / "fma" / "fma_metadata.zip").write_bytes(b"mine")
    with pytest.raises(AutotagError, match=r"fma_metadata.zip: its sha1 is .* delete it and call again"):
        download(fma, tmp_path / "fma", "small", patience=QUICK)


@pytest.fixture
def jamendo(server: FileServer, tmp_path: Path) -> Dataset:
    """The genre subset: tables, a list of two tars, and the tars."""
    (sample,) = (one for one in SAMPLES if one.name == "jamendo-genre")
    sample.write(tmp_path / "whole")
    files = files_below(tmp_path / "whole")
    audio = {name.removeprefix("audio/"): data for name, data in files.items() if name.startswith("audio/")}
    tars = {
        "low-00.tar": tarred({f"./{name}": audio[name] for name in sorted(audio)[:9]}, link="01/7.low.mp3"),
        "low-01.tar": tarred({name: audio[name] for name in sorted(audio)[9:]} | {"../up.low.mp3": b"x"}),
    }
    listed = "".join(f"{sha(data)} {name}\n" for name, data in tars.items()).encode()
    tables = {name: data for name, data in files.items() if name.endswith(".tsv")}
    server.files = {**{name.rsplit("/", 1)[-1]: data for name, data in tables.items()}, "list.txt": listed, **tars}
    remotes = tuple(
        Remote(name, f"{server.url}/{name.rsplit('/', 1)[-1]}", digest=f"sha256:{sha(data)}", subsets=("genre",))
        for name, data in tables.items()
    )
    published = next(remote for remote in find_dataset("jamendo").remotes if remote.lists)
    lists = replace(
        published,
        name="data/list.txt",
        url=f"{server.url}/list.txt",
        digest=f"sha256:{sha(listed)}",
        lists=f"{server.url}/",
    )
    return replace(find_dataset("jamendo"), remotes=(*remotes, lists))


def test_listed_tars_are_fetched_checked_and_unpacked_without_links_or_ways_out(
    jamendo: Dataset, server: FileServer, tmp_path: Path
) -> None:
    found = download(jamendo, tmp_path / "jamendo", "genre", patience=QUICK, delete_archives=True)
    assert (found.on_disk.annotated, found.on_disk.found) == (20, 20)
    assert set(found.unwanted) == {"01/7.low.mp3", "../up.low.mp3"}
    assert not list(tmp_path.rglob("up.low.mp3"))
    there = files_below(tmp_path / "jamendo")
    expected = files_below(tmp_path / "whole")
    assert {name: there.get(name) for name in expected} == expected
    asked = len(server.gets)
    download(jamendo, tmp_path / "jamendo", "genre", patience=QUICK)
    assert len(server.gets) == asked


def test_tar_that_is_cut_is_refused_with_its_checksum(jamendo: Dataset, server: FileServer, tmp_path: Path) -> None:
    server.files["low-01.tar"] = server.files["low-01.tar"][:4000]
    with pytest.raises(AutotagError, match=r"low-01.tar: its sha256 is"):
        download(jamendo, tmp_path / "jamendo", "genre", patience=QUICK)


def test_line_that_lists_no_archive_is_refused_with_its_number() -> None:
    good = f"{'a' * 64} low-00.tar"
    assert parse_list(good.encode(), "list.txt") == [("a" * 64, "low-00.tar")]
    for bad in ("low-00.tar", f"{'a' * 64} ../low-00.tar", f"{'a' * 63} low-00.tar"):
        with pytest.raises(AutotagError, match=r"list.txt line 2: expected a SHA-256"):
            parse_list(f"{good}\n{bad}\n".encode(), "list.txt")


def test_lists_of_gtzan_come_from_a_mirror_with_what_is_left_to_do(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sample,) = (one for one in SAMPLES if one.name == "gtzan")
    sample.write(tmp_path / "whole")
    server.files = {path.name: path.read_bytes() for path in (tmp_path / "whole").glob("*.txt")}
    own = replace(
        find_dataset("gtzan"),
        remotes=tuple(
            replace(one, digest=f"sha256:{sha(server.files[one.name])}") for one in find_dataset("gtzan").remotes
        ),
    )
    monkeypatch.setitem(DATASETS, "gtzan", own)
    done = invoke("download", "gtzan", tmp_path / "gtzan", "--base-url", server.url, catch_exceptions=False)
    assert done.stdout.splitlines() == [
        "clips: 0 of 20 annotated",
        "note: GTZAN, fault-filtered has 930 clips; this is not the whole of it",
        "missing: 20 (blues/blues.00000.wav, classical/classical.00001.wav, blues/blues.00002.wav, "
        "classical/classical.00003.wav, blues/blues.00004.wav, ...)",
        "note: the audio is no longer offered: put your own into genres, as genres/blues/blues.00000.wav or .au",
        f"written: {tmp_path}/gtzan (audio {tmp_path}/gtzan/genres, annotations {tmp_path}/gtzan)",
        f"next: autotag preprocess {tmp_path}/gtzan/genres {tmp_path}/gtzan OUT --dataset gtzan --split published",
    ]


@pytest.mark.parametrize("name", ["table", "synthetic"])
def test_data_set_that_nobody_offers_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=f"nothing of the data set '{name}' is offered"):
        download(find_dataset(name), tmp_path)
    assert "is not one of" in invoke("download", name, tmp_path).stderr


def test_address_or_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--base-url 'ftp://x': give the http"):
        download(find_dataset("gtzan"), tmp_path, base_url="ftp://x")
    write_text(tmp_path / "file", "")
    with pytest.raises(BadInputError, match="file is a file: give a folder"):
        download(find_dataset("gtzan"), tmp_path / "file")
    with pytest.raises(BadInputError, match="subset 'tiny' of the data set 'fma'"):
        download(find_dataset("fma"), tmp_path, "tiny")
