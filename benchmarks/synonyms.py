"""How a tagger's scores move when synonyms are merged: published predictions, before and after.

    .venv/bin/python -m benchmarks.synonyms ../shared/mtat/predictions

The folder holds what philtgun/music-tagging-benchmark publishes of a MusicNN on MagnaTagATune's clean test split:
``gt.csv`` and ``musicnn_est.csv``, a row a clip, its 50 values in the order of musicnn's tags. A merged tag is a clip's
where any of its group is, and its probability is the largest or the mean of the group's. Nothing is trained anew: a
network that learns the merged tags may do better. Differences have the interval of 95 % of a bootstrap over tracks.

    .venv/bin/python -m benchmarks.synonyms --map FOLDER

asks of a folder of ``autotag tag-map`` whether tags that mean the same lie near each other there.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from components.comparison_metrics import Figure, Weights, areas, areas_drawn, differences, over_draws
from components.tag_scores import TagScores, score_tags
from datasets.mtat import clip_of
from datasets.reading import load_synonyms
from pipeline.tag_map.projector import METADATA_FILE, VECTORS_FILE
from preprocessing.errors import BadInputError
from serving.pretrained.catalogue import find_trained

Values = npt.NDArray[np.floating[Any]]

LABELS: Final = "gt.csv"
PREDICTIONS: Final = "musicnn_est.csv"
MERGES: Final[dict[str, Callable[[Values], Values]]] = {
    "largest": lambda group: group.max(axis=1),
    "mean": lambda group: group.mean(axis=1),
}
"""What becomes of a group's probabilities, [clips, tags of the group] -> [clips]."""


@dataclass(frozen=True)
class Answers:
    """What a network said of clips.

    Attributes:
        tags: names of the columns.
        tracks: each clip's.
        labels: 0 or 1, [clips, tags].
        predictions: probabilities, [clips, tags].
    """

    tags: tuple[str, ...]
    tracks: tuple[str, ...]
    labels: Values
    predictions: Values

    def scores(self) -> TagScores:
        """Macro and per tag."""
        return score_tags(self.labels, self.predictions, self.tags)


def read_answers(folder: Path, tags: Sequence[str]) -> Answers:
    """Read the published files.

    Raises:
        BadInputError: they cannot be read, have other columns, or are of different clips.
    """
    paths, labels = _read_table(folder / LABELS, len(tags))
    others, predictions = _read_table(folder / PREDICTIONS, len(tags))
    if paths != others:
        raise BadInputError(f"{folder}: {LABELS} and {PREDICTIONS} are not of the same clips in the same order")
    return Answers(tuple(tags), tuple(clip_of("", path, ()).track for path in paths), labels, predictions)


def _read_table(path: Path, columns: int) -> tuple[list[str], Values]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row[0].partition("\t")[2], [float(value) for value in row[1:]]) for row in csv.reader(file)]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise BadInputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    wrong = next((number for number, (_, values) in enumerate(rows, start=1) if len(values) != columns), None)
    if wrong is not None or not rows:
        raise BadInputError(f"{path}, line {wrong or 1}: expected a path and {columns} values")
    return [name for name, _ in rows], np.array([values for _, values in rows])


def groups_of(tags: Sequence[str], synonyms: Mapping[str, str]) -> dict[str, list[int]]:
    """Kept tag -> columns that make it up, in the order of the first of each group."""
    groups: dict[str, list[int]] = {}
    for column, tag in enumerate(tags):
        groups.setdefault(synonyms.get(tag, tag), []).append(column)
    return groups


def merged(answers: Answers, synonyms: Mapping[str, str], merge: Callable[[Values], Values]) -> Answers:
    """Merge the columns that mean the same."""
    groups = groups_of(answers.tags, synonyms)
    return Answers(
        tuple(groups),
        answers.tracks,
        np.stack([answers.labels[:, columns].max(axis=1) for columns in groups.values()], axis=1),
        np.stack([merge(answers.predictions[:, columns]) for columns in groups.values()], axis=1),
    )


def moved(before: Answers, after: Sequence[Answers]) -> list[dict[str, Figure]]:
    """How far the macro figures of each ``after`` lie above those of ``before``, on the same draws of tracks."""
    base, *others = [_areas(one) for one in (before, *after)]
    return [differences(*one, *base) for one in others]


def _areas(answers: Answers) -> tuple[Mapping[str, float], Mapping[str, Weights]]:
    said = (answers.labels, answers.predictions)
    return areas(*said), over_draws(answers.tracks, partial(areas_drawn, *said))


def _macro(scores: TagScores, tags: Sequence[str]) -> tuple[float, float]:
    roc_auc, pr_auc = np.mean([scores.per_tag[tag] for tag in tags], axis=0)
    return float(roc_auc), float(pr_auc)


def report(answers: Answers, synonyms: Mapping[str, str]) -> list[str]:
    """Return the tables' lines."""
    groups = groups_of(answers.tags, synonyms)
    joint = {kept: columns for kept, columns in groups.items() if len(columns) > 1}
    members = [answers.tags[column] for columns in joint.values() for column in columns]
    before = answers.scores()
    after = {name: merged(answers, synonyms, merge) for name, merge in MERGES.items()}
    scores = {name: one.scores() for name, one in after.items()}
    lines = [
        f"{len(answers.tracks)} clips, {len(set(answers.tracks))} tracks; {len(answers.tags)} tags, of which "
        f"{len(members)} make {len(joint)}: {len(groups)} are left",
        "",
        "| | tags | ROC-AUC | PR-AUC |",
        "|---|---|---|---|",
        f"| as published | {len(answers.tags)} | {before.roc_auc:.4f} | {before.pr_auc:.4f} |",
    ]
    for (name, one), of in zip(scores.items(), moved(answers, list(after.values())), strict=True):
        cells = [
            f"{value:.4f} ({of[key].value:+.4f}, {of[key].low:+.4f} to {of[key].high:+.4f})"
            for key, value in (("roc_auc", one.roc_auc), ("pr_auc", one.pr_auc))
        ]
        lines.append(f"| merged, {name} probability | {len(groups)} | {' | '.join(cells)} |")
    apart = [tag for tag in answers.tags if tag not in members]
    rows = [("tags that stay as they are", apart, before), ("those that are merged, before", members, before)]
    rows += [(f"the same merged, {name} probability", list(joint), one) for name, one in scores.items()]
    for title, tags, one in rows:
        if tags:
            roc_auc, pr_auc = _macro(one, tags)
            lines.append(f"| {title} | {len(tags)} | {roc_auc:.4f} | {pr_auc:.4f} |")
    lines += ["", f"| tag, ROC-AUC / PR-AUC | {' | '.join(MERGES)} | of, one by one |", "|---|---|---|---|"]
    for kept, columns in joint.items():
        cells = ["{:.3f} / {:.3f}".format(*one.per_tag[kept]) for one in scores.values()]
        parts = [f"{answers.tags[at]} " + "{:.3f} / {:.3f}".format(*before.per_tag[answers.tags[at]]) for at in columns]
        lines.append(f"| {kept} | {' | '.join(cells)} | {', '.join(parts)} |")
    return lines


def nearness(tags: Sequence[str], vectors: Values, synonyms: Mapping[str, str]) -> str:
    """Say how near each other tags of one group are, by vectors of length 1, [tags, width]."""
    group = np.array([synonyms.get(tag, tag) for tag in tags])
    same = (group[:, None] == group) & ~np.eye(len(tags), dtype=bool)
    cosines = vectors @ vectors.T
    nearest = np.where(np.eye(len(tags), dtype=bool), -np.inf, cosines).argmax(axis=1)
    some = same.any(axis=1)
    other = ~same & ~np.eye(len(tags), dtype=bool)
    found = int(same[np.arange(len(tags)), nearest].sum())
    return (
        f"{len(tags)} tags, {int(some.sum())} with synonyms there: one of these is the nearest neighbour of {found}; "
        f"mean cosine {cosines[same].mean():.2f}, of other pairs {cosines[other].mean():.2f}"
    )


def read_map(folder: Path) -> tuple[list[str], Values]:
    """Read tags and vectors that ``autotag tag-map`` wrote for TensorBoard."""
    lines = (folder / METADATA_FILE).read_text(encoding="utf-8").splitlines()[1:]
    return [line.partition("\t")[0] for line in lines], np.loadtxt(folder / VECTORS_FILE, delimiter="\t", ndmin=2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path, nargs="?", help=f"folder with {LABELS} and {PREDICTIONS}")
    parser.add_argument("--map", type=Path, metavar="FOLDER", help="that autotag tag-map wrote")
    parser.add_argument("--synonyms", default="default", help="a YAML file, or 'default' for MagnaTagATune's")
    options = parser.parse_args()
    if (options.predictions is None) == (options.map is None):
        parser.error("give predictions, or --map")
    if options.map is not None:
        print(nearness(*read_map(options.map), load_synonyms(options.synonyms)))
        return
    answers = read_answers(options.predictions, find_trained("musicnn-mtt").tags())
    print("\n".join(report(answers, load_synonyms(options.synonyms))))


if __name__ == "__main__":
    main()
