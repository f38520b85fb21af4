"""benchmarks.synonyms: what is merged, into what, and what of the files it reads is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.synonyms import MERGES, Answers, groups_of, merged, nearness, read_answers, read_map, report
from datasets.reading import load_synonyms
from pipeline.tag_map.projector import write_projector
from pipeline.tag_map.vectors import TagVectors
from preprocessing.errors import BadInputError
from serving.pretrained.catalogue import find_trained

PUBLISHED = Path(__file__).parents[3] / "shared" / "mtat" / "predictions"
SYNONYMS = {"beats": "beat", "woman": "female"}


def answers() -> Answers:
    random = np.random.default_rng(0)
    labels = (random.random((40, 4)) < 0.4).astype(float)
    tracks = tuple(str(clip // 2) for clip in range(40))
    return Answers(("beats", "rock", "beat", "woman"), tracks, labels, random.random((40, 4)))


def test_a_merged_tag_is_a_clips_where_any_of_its_group_is() -> None:
    before = answers()
    after = merged(before, SYNONYMS, MERGES["largest"])
    assert after.tags == ("beat", "rock", "female")
    assert after.labels[:, 0].tolist() == np.maximum(before.labels[:, 0], before.labels[:, 2]).tolist()
    assert after.predictions[:, 0].tolist() == np.maximum(before.predictions[:, 0], before.predictions[:, 2]).tolist()
    assert after.predictions[:, 1:].tolist() == before.predictions[:, [1, 3]].tolist()
    mean = merged(before, SYNONYMS, MERGES["mean"])
    assert mean.predictions[:, 0].tolist() == before.predictions[:, [0, 2]].mean(axis=1).tolist()


def test_a_tag_whose_group_is_it_alone_takes_the_kept_name_and_counts_as_unmerged() -> None:
    assert groups_of(answers().tags, SYNONYMS)["female"] == [3]
    lines = report(answers(), {"woman": "female"})
    assert lines[0].startswith("40 clips, 20 tracks; 4 tags, of which 0 make 0: 4 are left")
    assert "+0.0000, +0.0000 to +0.0000" in next(line for line in lines if line.startswith("| merged, mean"))


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ("0\ta.mp3,0,1\n", "0\tb.mp3,0.1,0.2\n", "not of the same clips"),
        ("0\ta.mp3,0,1\n1\tb.mp3,0\n", "", r"gt\.csv, line 2: expected a path and 2 values"),
        ("0\ta.mp3,0,x\n", "", r"gt\.csv: could not convert"),
        ("", "", r"gt\.csv, line 1"),
        (None, "", r"gt\.csv: No such file"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_refused(
    tmp_path: Path, labels: str | None, predictions: str, message: str
) -> None:
    if labels is not None:
        (tmp_path / "gt.csv").write_text(labels)
    (tmp_path / "musicnn_est.csv").write_text(predictions)
    with pytest.raises(BadInputError, match=message):
        read_answers(tmp_path, ("rock", "beat"))


def test_nearness_counts_tags_whose_nearest_neighbour_means_the_same(tmp_path: Path) -> None:
    rows = [[1, 0], [0.1, 1], [0.9, 0.1], [0.2, 1], [1, 0.2]]
    vectors = TagVectors.of(("beats", "rock", "beat", "woman", "female"), rows, "a test")
    write_projector(vectors, tmp_path)
    text = nearness(*read_map(tmp_path), SYNONYMS)
    assert text.startswith("5 tags, 4 with synonyms there: one of these is the nearest neighbour of 1; ")


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no published predictions at {PUBLISHED}")
def test_published_predictions_score_as_published_before_and_higher_behind_the_default_synonyms() -> None:
    before = read_answers(PUBLISHED, find_trained("musicnn-mtt").tags())
    assert before.scores().roc_auc == pytest.approx(0.910897708562001, abs=1e-9)
    after = merged(before, load_synonyms("default"), MERGES["mean"])
    assert (len(after.tags), len(set(before.tracks))) == (37, 1105)
    scores = after.scores()
    assert scores.roc_auc == pytest.approx(0.9224, abs=5e-5)
    assert scores.pr_auc == pytest.approx(0.5343, abs=5e-5)
