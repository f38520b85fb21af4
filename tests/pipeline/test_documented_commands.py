"""Commands of README, docs/ and of every help text, called as a reader would: in a folder with songs, models and runs.

Each is called as it is written, or with what keeps it short (CUT_SHORT), or stands in NOT_CALLED with the reason.
A command that is written anew and is none of these is called as it is written.
"""

from __future__ import annotations

import functools
import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_model import EngineModel
from exported_model import TAGS
from kubeflow_api import MadeUpServer, serve_api
from made_up_run import MadeUpPipeline
from published_layouts import SAMPLES
from serving_double import MadeUpModel, serving_double
from song_files import needs_ffmpeg, part_as, song_as
from test_documentation import commands

from datasets.reading import load_tags
from pipeline import cli
from pipeline.doctor import loading
from serving.library.places import INDEX_NAME
from serving.model_info import MODEL_INFO_NAME
from serving.server.labels import LABELS_NAME, Labels

ROOT = Path(__file__).parents[2]

NOT_CALLED = {
    r"download ": "fetches gigabytes: tests/datasets/test_dataset_download.py",
    r"(export|import) ": "minutes of TensorFlow: tests/pipeline/test_export_command.py, tests/serving/pretrained",
    r"pretrained \S": "fetches and converts weights: tests/serving/pretrained",
    r"(page|serve|guard)\b": "runs until it is stopped: tests/pipeline/test_page_command.py, test_serve_command.py",
    r"(promote|rollback)(?!.*--(show|dry-run|no-server))": "asks a server: tests/pipeline/test_promote_command.py",
    r"rollback /models/": "a path in a server's container: tests/pipeline/test_promote_command.py",
    r"kubeflow (submit|schedule|unschedule) (?!.*--dry-run)": "changes it: tests/pipeline/test_kubeflow_server.py",
    r"gc .*--kubeflow": "wants the cluster's volume: tests/pipeline/test_kubeflow_garbage.py",
    r"kubeflow runs .*--metadata": "asks Kubeflow's ML Metadata: tests/pipeline/test_kubeflow_runs.py",
    r"preprocess (gs|s3)://|preprocess .*--runner": "works on a cluster: tests/preprocessing/beam",
    r".*(real-669| /music/)|preprocess jamendo": "data that are not here: tests/datasets/test_dataset_contract.py",
    r"tag .*--fields mine\.yaml": "a reader's own mapping: tests/serving/tagging/test_tag_fields.py",
    r"tag-map --(model|examples|annotations)": "TensorFlow, or hundreds of clips: tests/pipeline/test_tag_map.py",
    r"search .*metal": "tags that the tests' small model has not: tests/serving/library",
    r"similar .*--at 41:05": "wants 41 minutes of music: tests/pipeline/test_library_commands.py",
}
"""Beginning of a command -> why it is not called here, and what calls it."""

CUT_SHORT = {
    r"(run|compare) ": "--show-config",
    r"gc (?!.*--dry-run)": "--dry-run",
    r"kubeflow .*--host": "--host {kubeflow}",
    r"tag .*--server": "--server {serving}",
    r"preprocess ": "--dry-run --tags 3",
    r"make-corpus ": "--clips 4",
}
"""Beginning of a command -> what is put behind it: all but the work itself."""


CALLED_IN = {r"compare ": "comparison", r"kubeflow ": "cluster", r"search (?!.*--index)": "music"}
"""Beginning of a command -> folder in which a reader would call it."""

FIRST = {
    r"(search|similar) ": (f"music/{INDEX_NAME}", "index music"),
    r"tag .*new-songs": ("new-songs", "make-corpus new-songs --clips 4"),
}
"""Beginning of a command -> what it needs, and the command before it that makes that."""


def why_not_called(line: str) -> str | None:
    return next((why for pattern, why in NOT_CALLED.items() if re.match(pattern, line)), None)


def called() -> list[str]:
    """The commands, without comments, each once, in the order in which a reader meets them."""
    lines = [shlex.join(shlex.split(line, comments=True)) for _, line in commands()]
    return [line for line in dict.fromkeys(lines) if why_not_called(line) is None]


@pytest.fixture(scope="module")
def home(model: EngineModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has when all pages have been followed."""
    home = tmp_path_factory.mktemp("home")
    (home / "pipeline").symlink_to(ROOT / "pipeline")
    for name, config in (("comparison", "compare/demo.yaml"), ("cluster", "mtat-kubeflow.yaml")):
        (home / name).mkdir()
        (home / name / "pipeline").symlink_to(ROOT / "pipeline")
        shutil.copy(ROOT / "pipeline" / "configs" / config, home / name / "my.yaml")
    (home / "my.yaml").write_text("name: mine\nroot: my-run\ndata: {dataset: synthetic, audio_dir: demo-data}\n")
    _make_models(home, model.path)
    _make_runs(home)
    _make_songs(home)
    for sample in SAMPLES:
        if sample.name in ("mtat", "jamendo-top50tags", "jamendo-moodtheme", "fma-small"):
            sample.write(home / sample.dataset)
    words = sorted({word for tag in load_tags("default", "mtat", "") for word in tag.split()})
    vectors = np.random.default_rng(0).normal(size=(len(words), 8))
    lines = (f"{word} {' '.join(f'{value:.4f}' for value in row)}" for word, row in zip(words, vectors, strict=True))
    (home / "glove.6B.300d.txt").write_text("\n".join(lines) + "\n")
    return home


def _make_models(home: Path, version: Path) -> None:
    """A small model under the names that the pages give, with tags that they search for; in places with labels."""
    shutil.copytree(version, home / "model")
    card = home / "model" / MODEL_INFO_NAME
    text = card.read_text(encoding="utf-8")
    for old, new in zip(TAGS, ("jazz", "vocal", "piano", "drums", "ambient", "rock"), strict=True):
        for written in (json.dumps(old), json.dumps(old, ensure_ascii=False)):
            text = text.replace(written, json.dumps(new))
    card.write_text(text, encoding="utf-8")
    names = [f"{name}/pushed" for name in ("demo-run", "my-run", "mtat-run", "folders-run", "ROOT")]
    for name in (*names, "musicnn-mtt", "musicnn-msd"):  # a folder stands before a listed model of its name
        (home / name).mkdir(parents=True)
        for number in ("19", "20"):
            (home / name / number).symlink_to(home / "model")
    for name in ("ROOT", "demo-run"):
        labels = Labels().promoted("stable", 19).promoted("stable", 20)
        (home / name / "pushed" / LABELS_NAME).write_text(labels.to_json())


def _make_runs(home: Path) -> None:
    for root, name in (("my-run", "mine"), ("demo-run", "autotag-demo"), ("mtat-run", "autotag-mtat")):
        MadeUpPipeline(home / root, name).add_run("2026-01-31T12:00:00")


def _make_songs(home: Path) -> None:
    whole = song_as("mp3")
    places = ["song.mp3", "mix.mp3", "joram-moments_of_clarity-08-solipsism-59-88.mp3", "other/song.mp3"]
    places += ["albums/one/a.mp3", "album/a.mp3", "library/a.mp3", "mixes/a.mp3"]
    places += ["music/song.mp3", "music/mix.mp3"]
    for place in places:
        (home / place).parent.mkdir(parents=True, exist_ok=True)
        (home / place).write_bytes(whole)
    (home / "library" / "a.flac").write_bytes(song_as("flac"))
    names = [f"{genre}/{letter}.mp3" for genre in ("folk", "jazz", "rock") for letter in "abcdefgh"]
    for number, name in enumerate(names):
        (home / "music" / name).parent.mkdir(exist_ok=True)
        (home / "music" / name).write_bytes(part_as("mp3", number % 3))
    rows = ["song,genres", *(f"{name},{name.partition('/')[0]}" for name in names)]
    (home / "music" / "songs.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module", autouse=True)
def looked_at_once() -> Iterator[None]:
    """What `autotag doctor` loads, it loads once in all calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.doctor.packages.load_apart", functools.cache(loading.load_apart))
        patch.setattr("pipeline.doctor.jobs.load_apart", functools.cache(loading.load_apart))
        yield


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """Addresses of what answers in place of TensorFlow Serving and of Kubeflow."""
    with serving_double({1: MadeUpModel()}) as serving, serve_api() as (host, answers):
        kubeflow = MadeUpServer(host, answers)
        kubeflow.add_run("nightly", "SUCCEEDED", 30, Pusher="SUCCEEDED")
        kubeflow.add_version("v", None)
        answers["/apis/v2beta1/recurringruns"] = (200, {"recurringRuns": []})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("KF_PIPELINES_ENDPOINT", host)
            yield {"serving": serving.grpc_address, "kubeflow": host}


@pytest.fixture
def autotag(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], int]:
    """Calls the program in this process, in the reader's folder; standard input has a song, or names of songs."""

    def call(line: str) -> int:
        folder = next((folder for pattern, folder in CALLED_IN.items() if re.match(pattern, line)), ".")
        monkeypatch.chdir(home / folder)
        sent = b"song.mp3\0mix.mp3\0" if "--files-from -" in line else song_as("wav")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
        monkeypatch.setattr(sys, "argv", ["autotag", *shlex.split(line)])
        return cli._run()

    return call


@needs_ffmpeg
@pytest.mark.parametrize("line", [pytest.param(line, id=line[:70]) for line in called()])
def test_documented_command_runs(
    autotag: Callable[[str], int], servers: dict[str, str], home: Path, line: str, capfd: pytest.CaptureFixture[str]
) -> None:
    for pattern, (wanted, before) in FIRST.items():
        if re.match(pattern, line) and not (home / wanted).exists():
            assert autotag(before) == 0
    more = [words.format(**servers) for pattern, words in CUT_SHORT.items() if re.match(pattern, line)]
    code = autotag(" ".join([line, *more]))
    said = capfd.readouterr()
    assert code == 0, said.out + said.err


def test_every_reason_still_keeps_a_command_from_being_called() -> None:
    lines = [line for _, line in commands()]
    assert all(any(re.match(pattern, line) for line in lines) for pattern in [*NOT_CALLED, *CUT_SHORT])
    assert len(called()) > 80
    for why in NOT_CALLED.values():
        for path in re.findall(r"tests/[\w/*.]+", why):
            assert list(ROOT.glob(path)), path
