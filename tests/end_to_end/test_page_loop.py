"""From listening to a better model: tags marked at the page, a network trained from them, pushed, and heard there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import yaml
from page_server import Listener, local_access, running_page, write_version
from registered_networks import tiny_network

from models.registry import Network
from serving.page.app import Settings
from serving.page.corrections import Corrections
from serving.page.folder import Folder
from serving.page.models import Models
from serving.tagging.sources import LocalModel

pytestmark = pytest.mark.timeout(600)

SONGS = 30
CONFIG = Path(__file__).resolve().parents[2] / "pipeline" / "configs" / "corrections.yaml"


@pytest.fixture(scope="module")
def tiny() -> Iterator[Network]:
    with tiny_network() as network:
        yield network


@pytest.fixture
def music(tmp_path: Path) -> Path:
    """Low tones and high ones."""
    rng = np.random.default_rng(0)
    for number in range(SONGS):
        hertz = (200, 2400)[number % 2] * rng.uniform(0.9, 1.1)
        tone = 0.3 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 8_000) + 0.01 * rng.normal(size=16_000)
        (tmp_path / "music" / f"band {number % 5}").mkdir(parents=True, exist_ok=True)
        sf.write(tmp_path / "music" / f"band {number % 5}" / f"{number}.wav", tone.astype(np.float32), 8_000)
    return tmp_path / "music"


def heard(page: Any, song: str, model: str) -> dict[str, float]:
    lines = page.tag(song, model)
    (tags,) = [line["tags"] for line in lines if line["type"] == "model"]
    (song_line,) = [line for line in lines if line["type"] == "song"]
    return dict(zip(tags, song_line["probabilities"], strict=True))


def test_tags_marked_at_the_page_train_a_model_that_the_page_then_uses(
    tiny: Network, music: Path, tmp_path: Path
) -> None:
    from pipeline.runs.local_runner import run_pipeline
    from pipeline.settings.config import load_config

    listener, version = Listener(), write_version(tmp_path / "listener")

    def load(folder: Path, name: str) -> Any:
        return listener if folder == version else LocalModel(folder, "tensorflow", name=name)

    models = Models([str(tmp_path / "run" / "pushed"), str(version)], trained=(), load=load)
    corrections = Corrections(music / "autotag-corrections.csv")
    with running_page(Settings(models, local_access(), Folder(music), corrections=corrections)) as page:
        songs = [file["song"] for file in page.client.get("/api/files").json()["files"]]
        assert len(songs) == SONGS
        (old,) = [model["name"] for model in page.client.get("/api/models").json()]
        for song in songs:
            assert set(heard(page, song, old)) == {"loud", "peak", "half"}
            number = int(song.rpartition("/")[2].removesuffix(".wav"))
            for tag, mark in (("half", "wrong"), (("low", "high")[number % 2], "added")):
                answer = page.client.put("/api/corrections", json={"song": song, "tag": tag, "mark": mark})
                assert answer.status_code == 200

        settings = yaml.safe_load(CONFIG.read_text())
        settings["root"] = str(tmp_path / "run")
        settings["data"].update(
            annotations=str(music / "autotag-corrections.csv"),
            audio_dir=str(music),
            ratio=[6, 2, 2],
            heads={"tags": {"top": 3}},
            clip={"seconds": 1, "sample_rate": 16000},
        )
        settings["networks"] = {"tiny": {"epochs": 30, "learning_rate": 0.05, "batch_size": 8, "patience": 30}}
        settings["gate"] = {"min_roc_auc": 0.9, "max_drop": 1.0}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
        run_pipeline(load_config(str(tmp_path / "mine.yaml")))

        cards = page.client.get("/api/models").json()
        assert [card["default"] for card in cards] == [True, False]
        new = cards[0]
        assert Path(new["name"]).parent == tmp_path / "run" / "pushed"
        assert new["scores"]["roc_auc"] > 0.9
        tags = [heard(page, f"file:band {number % 5}/{number}.wav", new["name"]) for number in range(6)]
        assert all("half" not in one for one in tags)
        for tag, parity in (("low", 0), ("high", 1)):
            of_these = [one[tag] for number, one in enumerate(tags) if number % 2 == parity]
            of_others = [one[tag] for number, one in enumerate(tags) if number % 2 != parity]
            assert min(of_these) > max(of_others)
