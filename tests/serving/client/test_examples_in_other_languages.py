"""The curl, Go and Node examples, run against the double of TF Serving."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consumers import LANGUAGES, SERVING, Consumer, prepare, printed
from exported_model import TAGS, pcm_bytes, write_audio
from serving_double import MadeUpModel, ServingDouble, serving_double

from serving.client.messages import MESSAGES


@pytest.fixture(scope="module")
def double() -> Iterator[ServingDouble]:
    with serving_double({1: MadeUpModel(), 2: MadeUpModel(salt=2)}, {"stable": 1}) as running:
        yield running


@pytest.fixture(scope="module", params=sorted(LANGUAGES))
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def consumer(language: str, tmp_path_factory: pytest.TempPathFactory) -> Consumer:
    return prepare(language, tmp_path_factory.mktemp(language))


@pytest.fixture
def address(double: ServingDouble, language: str) -> str:
    return double.address(LANGUAGES[language])


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("songs") / "a song.pcm"
    path.write_bytes(pcm_bytes(40))
    return path


def expected(signature: str, data: bytes, salt: int = 2) -> list[tuple[str, Any]]:
    probabilities = MadeUpModel(salt=salt)(signature, np.array([data], object))["predictions"][0]
    order = np.argsort(-probabilities, kind="stable")[:5]
    return [(TAGS[i], pytest.approx(float(probabilities[i]), abs=0.00051)) for i in order]


def test_raw_pcm_is_tagged(consumer: Consumer, address: str, song: Path) -> None:
    assert printed(consumer(address, song)) == expected("pcm", song.read_bytes())


def test_wav_file_is_tagged(consumer: Consumer, address: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 31, channels=2)
    assert printed(consumer(address, path)) == expected("wav", path.read_bytes())


def test_version_with_a_label_is_asked(consumer: Consumer, address: str, song: Path) -> None:
    assert printed(consumer(address, song, label="stable")) == expected("pcm", song.read_bytes(), salt=0)


def test_servers_words_are_shown_and_the_exit_code_says_so(consumer: Consumer, address: str, tmp_path: Path) -> None:
    done = consumer(address, write_audio(tmp_path / "a.wav", 1, rate=44_100))
    assert done.returncode not in (0, 2)
    assert "expected 16000 Hz, got 44100" in done.stdout + done.stderr


def test_missing_file_and_missing_server_are_said(consumer: Consumer, address: str, song: Path) -> None:
    done = consumer(address, song.with_name("missing.wav"))
    assert done.returncode == 1
    assert "missing.wav" in done.stderr
    done = consumer("localhost:1", song)
    assert done.returncode not in (0, 2)
    assert re.search("(?i)connect|unavailable", done.stderr)


FFMPEG = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")


def decoded(path: Path) -> bytes:
    call = ["ffmpeg", "-v", "error", "-i", f"file:{path}", "-ac", "1", "-ar", "16000", "-f", "s16le", "pipe:1"]
    return subprocess.run(call, check=True, capture_output=True).stdout


@FFMPEG
@pytest.mark.parametrize(
    ("kind", "name"),
    [("mp3", "a song.mp3"), ("flac", "b.FLAC"), ("ogg", "without a suffix"), ("mp3", "an MP3.wav"), ("flac", "a.pcm")],
)
def test_other_files_are_decoded_whatever_they_are_called(
    consumer: Consumer, address: str, tmp_path: Path, kind: str, name: str
) -> None:
    wav, path = write_audio(tmp_path / "a.wav", 3, rate=44_100, channels=2), tmp_path / name
    subprocess.run(["ffmpeg", "-v", "error", "-i", str(wav), "-f", kind, f"file:{path}"], check=True)
    assert printed(consumer(address, path)) == expected("pcm", decoded(path))


def test_wav_file_with_another_name_is_sent_as_wav(consumer: Consumer, address: str, tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav", 3).rename(tmp_path / "a.pcm")
    assert printed(consumer(address, path)) == expected("wav", path.read_bytes())


@pytest.mark.parametrize("content", [b"ID3\4" + bytes(300), b"\xff\xfb\x90\x64" + bytes(900)])
def test_file_that_is_no_samples_is_refused_where_there_is_no_ffmpeg(
    consumer: Consumer, double: ServingDouble, address: str, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "curl", "base64", "tr", "od", "head", "node", "mktemp", "rm"):
        if (there := shutil.which(tool)) is not None:
            (tmp_path / "bin" / tool).symlink_to(there)
    path, before = tmp_path / "song.mp3", len(double.requests)
    path.write_bytes(content)
    done = consumer(address, path, PATH=str(tmp_path / "bin"))
    assert done.returncode == 1
    assert "with ffmpeg on PATH it would be decoded" in done.stderr
    assert len(double.requests) == before


@FFMPEG
def test_file_that_ffmpeg_cannot_decode_is_not_sent(
    consumer: Consumer, double: ServingDouble, address: str, tmp_path: Path
) -> None:
    path, before = tmp_path / "notes.txt", len(double.requests)
    path.write_text("no audio")
    done = consumer(address, path)
    assert done.returncode not in (0, 2)
    assert "Invalid data" in done.stderr
    assert len(double.requests) == before


def test_tensors_as_bytes_are_read_too(consumer: Consumer, double: ServingDouble, address: str, song: Path) -> None:
    double.tensor_content = True
    try:
        assert printed(consumer(address, song)) == expected("pcm", song.read_bytes())
    finally:
        double.tensor_content = False


@pytest.mark.parametrize("package", ["tensorflow", "serving"])
def test_generated_go_code_is_of_the_protos_as_they_are(package: str) -> None:
    (generated,) = (
        path for path in (SERVING / "examples" / "go" / package).glob("*.pb.go") if "_grpc" not in path.name
    )
    text = generated.read_text(encoding="utf-8")
    prefix = f"tensorflow.{package}." if package == "serving" else "tensorflow."
    ours = {
        name.removeprefix(prefix): one
        for name, one in MESSAGES.items()
        if one.DESCRIPTOR.file.package == prefix[:-1] and one.DESCRIPTOR.containing_type is None
    }
    assert ours
    for name, message in ours.items():
        body = re.search(rf"^type {name} struct {{\n(.*?)^}}", text, re.MULTILINE | re.DOTALL)
        assert body is not None, name
        plain = [field for field in message.DESCRIPTOR.fields if field.containing_oneof is None]
        found = dict(re.findall(r'protobuf:"\w+,(\d+),[^"]*?name=(\w+)', body[1]))
        assert found == {str(field.number): field.name for field in plain}, name


def test_lock_file_names_no_host_to_fetch_from() -> None:
    assert "resolved" not in (SERVING / "examples" / "node" / "package-lock.json").read_text(encoding="utf-8")
