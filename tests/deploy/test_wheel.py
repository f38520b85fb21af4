"""The wheel, built from what git has, in an environment of its own outside the checkout, with the locked versions.

Skipped unless AUTOTAG_WHEEL_DIR says where the distributions go (`make wheel`): packages come from the index.
"""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from engine_model import EngineModel
from exported_model import TAGS
from song_files import needs_ffmpeg, song_as

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"
LOCKS = {(3, 10): "py310-tfx116.txt", (3, 13): "py313-tfx121.txt"}
PACKAGES = ("components", "datasets", "models", "pipeline", "preprocessing", "serving")
NOT_INSTALLED = "serving/client/examples/"
"""In other languages, to be copied."""

CONSUMER = """\
from pathlib import Path

from serving.client import TagClient
from serving.tagging import FailedFile, TaggedFile, Tagger

tagger = Tagger("musicnn-mtt")
song: TaggedFile = tagger.tag_file("song.mp3")
name, probability = song.top(5)[0]
print(name.upper(), probability + 1.0)
for answer in tagger.tag_files([Path("a.mp3")]):
    print(answer.reason if isinstance(answer, FailedFile) else answer.seconds)
with TagClient("localhost:8500") as client:
    print(client.tag_file("song.mp3").top(5))
"""
WRONG = """\
from serving.tagging import Tagger

tagger = Tagger(5)
number: int = tagger.tag_file("song.mp3").top(5)
tagger.hear("song.mp3")
"""

pytestmark = pytest.mark.skipif("AUTOTAG_WHEEL_DIR" not in os.environ, reason="no AUTOTAG_WHEEL_DIR (make wheel)")


@functools.cache
def tracked() -> tuple[str, ...]:
    """Files that git has or would take, as they lie here."""
    call = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return tuple(sorted({name for name in names if name and (ROOT / name).is_file()}))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, and that from a copy of the checkout."""
    source, out = tmp_path_factory.mktemp("source"), ROOT / os.environ["AUTOTAG_WHEEL_DIR"]
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("autotag-*"):
        old.unlink()
    call = [UV, "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", out, source]
    subprocess.run(call, check=True)
    (built,) = out.glob("autotag-*.whl")
    return built


class Clean:
    """An environment that holds the wheel and what it asks for, and a folder beside it to work in."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder, self._wheel, self._venv = folder / "work", wheel, folder / "venv"
        self.folder.mkdir()
        subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, self._venv], check=True)

    @property
    def python(self) -> Path:
        return self._venv / "bin" / "python"

    def install(self, extra: str) -> None:
        lock = ROOT / "requirements" / LOCKS[sys.version_info[:2]]
        environment = {**os.environ, "VIRTUAL_ENV": str(self._venv)}
        call = [UV, "pip", "install", "--quiet", "--constraint", lock, f"autotag[{extra}] @ {self._wheel.as_uri()}"]
        subprocess.run(call, env=environment, check=True)

    def command(self, program: str, *arguments: str | Path) -> dict[str, Any]:
        """For subprocess: a program of the environment, with nothing of this checkout on its path."""
        hidden = ("PYTHONPATH", "VIRTUAL_ENV", "DISPLAY")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        return {"args": [self._venv / "bin" / program, *arguments], "cwd": self.folder, "env": environment}

    def run(self, *call: str | Path, code: int = 0) -> str:
        """What a program of the environment prints."""
        done = subprocess.run(**self.command(str(call[0]), *call[1:]), capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def clean(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clean]:
    clean = Clean(tmp_path_factory.mktemp("clean"), wheel)
    clean.install("serving")
    return clean


def test_distributions_hold_every_file_of_the_packages(wheel: Path) -> None:
    wanted = {name for name in tracked() if name.split("/")[0] in PACKAGES and not name.startswith(NOT_INSTALLED)}
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert held == wanted
        assert all(archive.read(name) == (ROOT / name).read_bytes() for name in sorted(wanted))
    (source,) = wheel.parent.glob("autotag-*.tar.gz")
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert held >= wanted | {"setup.py", "pyproject.toml", "README.md", "LICENSE"}


def test_client_can_be_used_without_beam_and_tensorflow(clean: Clean, wheel: Path) -> None:
    version = wheel.name.split("-")[1]
    assert clean.run("autotag", "--version") == f"autotag, version {version}\n"
    found = json.loads(clean.run("autotag", "doctor", "--for", "client", "--json"))
    assert [job["ready"] for job in found["jobs"]] == [True]
    place = next(one["detail"] for one in found["findings"] if one["name"] == "autotag")
    assert place.endswith("site-packages")
    packages = "('apache_beam', 'tensorflow', 'tfx', 'keras')"
    code = f"import importlib.util as u; print([p for p in {packages} if u.find_spec(p)])"
    assert clean.run("python", "-c", code) == "[]\n"


def test_lists_and_tables_of_the_packages_are_read(clean: Clean) -> None:
    models = json.loads(clean.run("autotag", "pretrained", "--json"))
    assert {len(model["tags"]) for model in models} >= {50}
    assert len(json.loads(clean.run("autotag", "networks", "--json"))) > 30
    assert "MagnaTagATune" in clean.run("autotag", "dataset", "mtat")
    code = "from datasets.reading import load_tags; print(len(load_tags('default', 'mtat', '')))"
    assert clean.run("python", "-c", code) == "50\n"


@needs_ffmpeg
def test_doctor_says_what_tagging_lacks_and_with_that_a_file_is_tagged(clean: Clean, model: EngineModel) -> None:
    (clean.folder / "song.mp3").write_bytes(song_as("mp3"))
    (job,) = json.loads(clean.run("autotag", "doctor", "--for", "tag", "--json", code=1))["jobs"]
    assert job["lacks"][0]["remedy"] == "pip install 'autotag[tag]'"
    clean.install("serving,tag")
    clean.run("autotag", "doctor", "--for", "tag")
    tag = ("autotag", "tag", "song.mp3", "--model", model.path)
    answer = json.loads(clean.run(*tag, "--json"))
    assert {tag["tag"] for tag in answer["tags"]} <= set(TAGS)
    assert answer["seconds"] == 15.0
    assert "litert" in answer["identity"]
    assert json.loads(clean.run(*tag, "--write", "--fields", "default", "--dry-run", "--json"))["file"] == "song.mp3"


def test_page_is_served_whole(clean: Clean, model: EngineModel) -> None:
    clean.install("serving,page")
    clean.run("autotag", "doctor", "--for", "page")
    call = clean.command("autotag", "page", "--port", "0", "--no-browser", "--model", model.path)
    with subprocess.Popen(**call, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = server.stderr.readline().split()[1].rstrip("/")
            page = httpx.get(address).text
            parts = set(re.findall(r'(?:src|href)="(/[^"]+)"', page))
            assert len(parts) > 8
            assert {part: httpx.get(address + part).status_code for part in parts} == dict.fromkeys(parts, 200)
        finally:
            server.kill()


def test_consumers_types_are_checked_against_the_wheel(clean: Clean) -> None:
    def check(text: str) -> subprocess.CompletedProcess[str]:
        (clean.folder / "consumer.py").write_text(text)
        call = [sys.executable, "-m", "mypy", "--strict", "--python-executable", clean.python, "consumer.py"]
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
        return subprocess.run(call, cwd=clean.folder, env=environment, capture_output=True, text=True, check=False)

    right, wrong = check(CONSUMER), check(WRONG)
    assert right.returncode == 0, right.stdout
    assert wrong.returncode == 1
    lines = [line for line in wrong.stdout.splitlines() if ": error:" in line]
    assert [line.rpartition(" ")[2] for line in lines] == ["[arg-type]", "[assignment]", "[attr-defined]"]
