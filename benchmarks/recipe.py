"""What each part of a training recipe changes on a corpus of the user's own: an ablation as table, CSV and picture.

    python -m benchmarks.recipe --corpus pipeline/configs/real-669.yaml --networks mel_1d --seeds 0 1 2
    python -m benchmarks.recipe --corpus pipeline/configs/real-669.yaml --parts time_shift gain --minutes 120
    python -m benchmarks.recipe --corpus pipeline/configs/real-669.yaml --onto time_shift --parts gain mixup
    python -m benchmarks.recipe --corpus my.yaml --part "soft={label_smoothing: 0.1}" --report-only

Each network is trained by the plain recipe `paper` (base), by that with one part more, for every part, and with all of
them (all); `--onto` puts parts into the base that were found to help. A part that a network cannot have is left out
with a word. Trainings are those of `autotag compare`: one at a time, resumed where a call was killed or `--minutes`
were over, known to ML Metadata by data, settings and code. ROOT gets a comparison's file for each network (`autotag
compare ROOT/mel_1d.yaml --report-only` makes its page), recipe.csv and recipe.svg. More parts, networks or seeds in the
same root are added to what is there.

A difference is that of the seeds' mean scores on the test split. It has two uncertainties: the clips (paired bootstrap
over tracks, as in a comparison) and the seeds (Student's t on the deviation over seeds, pooled over all recipes of the
network). A part helps or harms where the difference lies beyond both together, the root of their squares; of one seed
alone nothing is said. One in twenty parts that change nothing will still seem to.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import yaml
from matplotlib.figure import Figure as Picture
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from components.comparison_metrics import LEVEL, Figure, Weights, areas, areas_drawn, over_draws
from components.kept_answers import read_answers
from models.registry import find_network
from pipeline.compare.config import ComparisonConfig, row_name
from pipeline.compare.results import AREAS, Evaluation
from pipeline.compare.run import train_and_read
from pipeline.settings.data_config import DataConfig
from pipeline.settings.network_config import NetworkConfig
from pipeline.settings.old_settings import convert_old
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.settings_file import read_settings_file, wrong_setting
from preprocessing.whole_files import open_whole, write_whole
from preprocessing.windows import NEARLY_ALL

BASE: Final = "base"
ALL: Final = "all"
WITH: Final = "_with_"
DATA: Final = "corpus"
PLAIN: Final[dict[str, Any]] = {"recipe": "paper"}

PARTS: Final[dict[str, dict[str, Any]]] = {
    "time_shift": {"time_shift": True},
    "gain": {"gain_db": 4.0},
    "equaliser": {"equaliser_db": 3.0},
    "mixup": {"mixup": 0.3},
    "spec_augment": {"frequency_mask": 0.15, "time_mask": 0.1},
    "noise": {"noise": 0.3},
    "mp3": {"mp3": 0.3},
    "windows": {"windows": {"train": 4}},
    "dropout": {"dropout": 0.3},
    "weight_decay": {"weight_decay": 0.05},
    "label_smoothing": {"label_smoothing": 0.05},
    "one_cycle": {"schedule": "one_cycle"},
    "average": {"average": 0.99},
    "class_balance": {"class_balance": 0.5},
    "pr_auc": {"monitor": "pr_auc"},
    "plateau": {"schedule": "plateau"},
    "loss": {"monitor": "loss"},
    "layer_decay": {"layer_decay": 0.8},
    "freeze_batch_norm": {"freeze_batch_norm": True},
    "good": {"recipe": "good"},
    "comparison": {"recipe": "comparison"},
}
"""Name -> settings, whose sources components/augmentation.py and components/optimisation.py name. Of parts that set the
same, the first goes into ``all``; whole recipes do not."""

NETWORKS: Final[dict[str, dict[str, Any]]] = {
    "mel_1d": {"epochs": 24, "patience": 12},
    "mel_2d": {"epochs": 24, "patience": 12},
    "fcn": {"epochs": 24, "patience": 12},
    "musicnn": {
        "weights": "musicnn-msd",
        "train": "head",
        "epochs": 40,
        "patience": 10,
        "batch_size": 64,
        "learning_rate": 0.003,
    },
}
"""Name -> its settings under every recipe; further networks of the registry are trained as the first three."""

OF_SOUND: Final = frozenset(
    {
        "time_shift",
        "gain_db",
        "equaliser_db",
        "mixup",
        "noise",
        "mp3",
        "frequency_mask",
        "time_mask",
        "windows",
        "dropout",
        "layer_decay",
        "freeze_batch_norm",
    }
)
"""Settings that change nothing where a last layer learns from embeddings that are computed once."""


def read_corpus(path: str) -> DataConfig:
    """Read the data section of a configuration of ``autotag run``, or a file that is such a section.

    Raises:
        BadInputError: says which setting is wrong and why.
    """
    values = convert_old(read_settings_file(path), path)
    try:
        return DataConfig.model_validate(values.get("data", values))
    except ValidationError as error:
        raise wrong_setting(error, path) from None


def read_part(text: str) -> tuple[str, dict[str, Any]]:
    """Read NAME={SETTING: VALUE, ...}.

    Raises:
        BadInputError: it is something else.
    """
    name, equals, settings = text.partition("=")
    try:
        values = yaml.safe_load(settings) if equals else None
    except yaml.YAMLError:
        values = None
    if not name or not isinstance(values, dict) or not values:
        raise BadInputError(f"--part {text}: expected NAME={{SETTING: VALUE}}, such as 'soft={{label_smoothing: 0.1}}'")
    if name in (BASE, ALL):
        raise BadInputError(f"--part {text}: {name!r} is the name of a recipe that is always trained")
    return name, values


def why_not(part: Mapping[str, Any], network: NetworkConfig, data: DataConfig) -> str | None:
    """Say why a part changes nothing of how a network is trained; None where it does."""
    if "recipe" in part:
        return None
    if network.train == "head" and part.keys() <= OF_SOUND:
        return "its last layer learns from embeddings that are computed once"
    entry = find_network(network.network or "")
    windowed = entry.window_in(data.clip.format) < NEARLY_ALL * data.clip.format.samples
    if part.keys() == {"windows"} and not windowed:
        return "it hears a clip as a whole"
    if part.keys() == {"time_shift"} and windowed:
        return "it learns from random windows"
    if part.keys() <= {"layer_decay", "freeze_batch_norm"} and network.weights is None:
        return "it starts without trained weights"
    if part.keys() == {"dropout"} and not _drops(entry.build()):
        return "it has no dropout"
    return None


def _drops(model: Any) -> bool:
    import keras

    return any(isinstance(layer, keras.layers.Dropout) for layer in model._flatten_layers())


def together(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """All parts at once: of those that set the same, the first; no whole recipes."""
    settings: dict[str, Any] = {}
    for part in parts.values():
        if "recipe" not in part and not part.keys() & settings.keys():
            settings.update(part)
    return settings


def _digest(settings: Mapping[str, Any]) -> str:
    """Of the parts that make up all: those of another choice are another recipe."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:6]


@dataclass(frozen=True)
class Plan:
    """What is to be trained of one network.

    Attributes:
        comparison: its recipes.
        recipes: BASE, a part's name or ALL -> name of the recipe in the comparison.
        left_out: part -> why the network cannot have it.
    """

    comparison: ComparisonConfig
    recipes: Mapping[str, str]
    left_out: Mapping[str, str]


def plan(
    data: DataConfig,
    network: str,
    parts: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    root: str,
    epochs: int | None = None,
    onto: Mapping[str, Mapping[str, Any]] | None = None,
) -> Plan:
    """Return what is to be trained of one network.

    Args:
        data: the corpus.
        network: of the registry.
        parts: name -> settings.
        seeds: of each recipe.
        root: where it is trained.
        epochs: at most, in place of the network's own.
        onto: parts that the base has besides the plain recipe's settings.

    Raises:
        BadInputError: there is no such network, or a setting is wrong.
    """
    onto = onto or {}
    base = {**PLAIN, **together(onto)}
    base_name = WITH.join(onto) or BASE
    settings = {"network": network, **NETWORKS.get(network, NETWORKS["mel_1d"])}
    if epochs is not None:
        settings["epochs"] = epochs
    try:
        find_network(network)
        config = NetworkConfig.model_validate({**settings, **base})
        reasons = {name: why_not(part, config, data) for name, part in parts.items() if name not in onto}
        chosen = {name: parts[name] for name, reason in reasons.items() if reason is None}
        settings_of = {BASE: base, **{name: {**base, **part} for name, part in chosen.items()}}
        if sum("recipe" not in part for part in chosen.values()) > 1:
            settings_of[ALL] = {**base, **together(chosen)}
        names = {**{name: name for name in chosen}, ALL: f"{ALL}_{_digest(together(chosen))}"}
        recipes = {BASE: base_name} | {part: WITH.join([*onto, names[part]]) for part in settings_of if part != BASE}
        comparison = ComparisonConfig.model_validate(
            {
                "name": "recipe",
                "root": root,
                "data": {DATA: data.model_dump(mode="json")},
                "networks": {network: settings},
                "recipes": {recipes[name]: values for name, values in settings_of.items()},
                "seeds": list(seeds),
                "reference": row_name(network, base_name),
            }
        )
    except ValidationError as error:
        raise wrong_setting(error, network) from None
    return Plan(comparison, recipes, {name: reason for name, reason in reasons.items() if reason is not None})


@dataclass(frozen=True)
class Trainings:
    """A network's trainings by one recipe.

    Attributes:
        of_seeds: seed -> AREAS of the test split.
        drawn: AREAS, the seeds' mean in each draw of tracks, float64 [draws].
        current: whether all were made of the data, settings and code of now.
    """

    of_seeds: Mapping[int, Mapping[str, float]]
    drawn: Mapping[str, Weights]
    current: bool = True

    def scores(self, area: str) -> list[float]:
        """Of each seed."""
        return [figures[area] for figures in self.of_seeds.values()]

    def mean(self, area: str) -> float:
        """Over the seeds."""
        return float(np.mean(self.scores(area)))


def read_trainings(evaluations: Sequence[Evaluation]) -> dict[str, Trainings]:
    """Recipe -> its trainings, scored anew from the answers that were kept."""
    by_recipe: dict[str, list[Evaluation]] = {}
    for evaluation in sorted(evaluations, key=lambda one: one.entry.seed):
        by_recipe.setdefault(evaluation.entry.recipe, []).append(evaluation)
    found = {}
    for recipe, group in by_recipe.items():
        of_seeds, drawn = {}, []
        for evaluation in group:
            answers = read_answers(evaluation.folder)
            of_seeds[evaluation.entry.seed] = areas(answers.labels, answers.predictions)
            measured = partial(areas_drawn, answers.labels, answers.predictions)
            drawn.append(over_draws(answers.tracks, measured))
        means = {area: np.mean([one[area] for one in drawn], axis=0) for area in AREAS}
        found[recipe] = Trainings(of_seeds, means, all(one.current for one in group))
    return found


@dataclass(frozen=True)
class Difference:
    """How far a recipe lies above the base in one measure.

    Attributes:
        value: of the seeds' means.
        drawn: the same in each draw of tracks, float64 [draws].
        variance: of ``value`` over seeds; NaN where no recipe has two.
        freedom: degrees of it.
    """

    value: float
    drawn: Weights
    variance: float
    freedom: int

    @classmethod
    def mean(cls, differences: Sequence[Difference]) -> Difference:
        """Of the same part with several networks."""
        return cls(
            float(np.mean([one.value for one in differences])),
            np.mean([one.drawn for one in differences], axis=0),
            sum(one.variance for one in differences) / len(differences) ** 2,
            min(one.freedom for one in differences),
        )

    @property
    def over_tracks(self) -> Figure:
        """With the interval of the clips alone."""
        return Figure.of(self.value, self.drawn)

    @property
    def over_seeds(self) -> float:
        """Half the interval of the seeds alone; NaN where no recipe has two."""
        return (
            float(student.ppf((1 + LEVEL) / 2, self.freedom) * math.sqrt(self.variance)) if self.freedom else math.nan
        )

    @property
    def over_both(self) -> Figure:
        """With the interval of clips and seeds; NaN where the seeds' is not known."""
        tracks, seeds = self.over_tracks, self.over_seeds
        low = self.value - math.hypot(self.value - tracks.low, seeds)
        return Figure(self.value, low, self.value + math.hypot(tracks.high - self.value, seeds))

    @property
    def verdict(self) -> str:
        """``helps``, ``harms``, empty where it cannot be told, ``one seed`` where nothing is said."""
        both = self.over_both
        if math.isnan(both.low):
            return "one seed"
        return "helps" if both.low > 0 else "harms" if both.high < 0 else ""


@dataclass(frozen=True)
class Effect:
    """What a part does to a network.

    Attributes:
        network: its name, or the names of those whose mean it is.
        part: name.
        seeds: how many trainings of each network.
        of: AREAS -> how far above the base.
        current: whether all of it was made of the data, settings and code of now.
    """

    network: str
    part: str
    seeds: int
    of: Mapping[str, Difference]
    current: bool = True


def effects(network: str, trainings: Mapping[str, Trainings]) -> list[Effect]:
    """What each recipe of a network does against its base, in the order of the recipes; none without a base."""
    if BASE not in trainings:
        return []
    base = trainings[BASE]
    pooled = {area: pooled_variance(list(trainings.values()), area) for area in AREAS}
    return [
        Effect(
            network,
            name,
            len(one.of_seeds),
            {area: _difference(one, base, *pooled[area], area) for area in AREAS},
            one.current and base.current,
        )
        for name, one in trainings.items()
        if name != BASE
    ]


def pooled_variance(trainings: Sequence[Trainings], area: str) -> tuple[float, int]:
    """Variance of one training's score over seeds, pooled over recipes, and its degrees of freedom."""
    freedom = sum(len(one.of_seeds) - 1 for one in trainings)
    squares = sum(float(np.square(np.array(one.scores(area)) - one.mean(area)).sum()) for one in trainings)
    return (squares / freedom if freedom else math.nan), freedom


def _difference(one: Trainings, base: Trainings, variance: float, freedom: int, area: str) -> Difference:
    return Difference(
        one.mean(area) - base.mean(area),
        one.drawn[area] - base.drawn[area],
        variance * (1 / len(one.of_seeds) + 1 / len(base.of_seeds)),
        freedom,
    )


def means(found: Sequence[Effect]) -> list[Effect]:
    """What parts do on the mean of all networks that have them, of those that more than one has."""
    by_part: dict[str, list[Effect]] = {}
    for effect in found:
        by_part.setdefault(effect.part, []).append(effect)
    return [
        Effect(
            ", ".join(one.network for one in group),
            part,
            min(one.seeds for one in group),
            {area: Difference.mean([one.of[area] for one in group]) for area in AREAS},
            all(one.current for one in group),
        )
        for part, group in by_part.items()
        if len(group) > 1
    ]


NAMES: Final = {"roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}


def as_table(bases: Mapping[str, Trainings], found: Sequence[Effect]) -> Table:
    """For people: each network's base, then how far each part lies above it."""
    table = Table(box=None, pad_edge=False)
    for column in ("network", "part", "seeds"):
        table.add_column(column, no_wrap=True)
    for name in NAMES.values():
        table.add_column(name, justify="right", no_wrap=True)
        for column in ("over tracks", "over seeds", ""):
            table.add_column(column, no_wrap=True)
    for network, base in bases.items():
        cells = [cell for area in AREAS for cell in _base_cells(base, area)]
        table.add_row(network, BASE, str(len(base.of_seeds)), *cells)
    for effect in found:
        part = effect.part if effect.current else f"{effect.part} (earlier)"
        table.add_row(effect.network, part, str(effect.seeds), *(c for area in AREAS for c in _cells(effect.of[area])))
    return table


def _base_cells(base: Trainings, area: str) -> tuple[str, ...]:
    figure, scores = Figure.of(base.mean(area), base.drawn[area]), base.scores(area)
    spread = f"+-{np.std(scores, ddof=1):.3f}" if len(scores) > 1 else ""
    return f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}", spread, ""


def _cells(one: Difference) -> tuple[str, ...]:
    tracks, seeds = one.over_tracks, one.over_seeds
    spread = "" if math.isnan(seeds) else f"+-{seeds:.3f}"
    return f"{one.value:+.3f}", f"{tracks.low:+.3f} to {tracks.high:+.3f}", spread, one.verdict


def as_csv(bases: Mapping[str, Trainings], found: Sequence[Effect]) -> str:
    """One line a network and part; the base's lines have its scores, all others differences to them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ends = ("", "_low_over_tracks", "_high_over_tracks", "_over_seeds", "_low", "_high", "_verdict")
    writer.writerow(["network", "part", "seeds", "current", *(f"{area}{end}" for area in AREAS for end in ends)])
    for network, base in bases.items():
        cells: list[Any] = []
        for area in AREAS:
            figure = Figure.of(base.mean(area), base.drawn[area])
            cells += [figure.value, figure.low, figure.high, "", "", "", ""]
        writer.writerow([network, BASE, len(base.of_seeds), base.current, *cells])
    for effect in found:
        cells = []
        for area in AREAS:
            one = effect.of[area]
            tracks, both = one.over_tracks, one.over_both
            cells += [one.value, tracks.low, tracks.high, one.over_seeds, both.low, both.high, one.verdict]
        writer.writerow([effect.network, effect.part, effect.seeds, effect.current, *cells])
    return text.getvalue()


COLOURS: Final = {"helps": "#1a7f37", "harms": "#b42318", "": "#57606a", "one seed": "#b0b7bf"}


def draw(found: Sequence[Effect], path: Path) -> None:
    """Draw a dot with its interval for each part, a column of pictures a network, ROC-AUC above PR-AUC."""
    networks = list(dict.fromkeys(effect.network for effect in found))
    parts = list(dict.fromkeys(effect.part for effect in found))
    size = (1.6 + 3.2 * len(networks), 1.2 + 0.5 * len(parts))
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "recipe"}):
        picture = Picture(figsize=size, layout="constrained")
        grid = picture.subplots(len(AREAS), len(networks), squeeze=False, sharey=True)
        for axes_of_area, area in zip(grid, AREAS, strict=True):
            for axes, network in zip(axes_of_area, networks, strict=True):
                axes.axvline(0, color="#8c959f", linewidth=0.8)
                for effect in (one for one in found if one.network == network):
                    difference = effect.of[area]
                    both = difference.over_both if difference.freedom else difference.over_tracks
                    row, colour = parts.index(effect.part), COLOURS[difference.verdict]
                    axes.plot([both.low, both.high], [row, row], color=colour, linewidth=1.5)
                    axes.plot([both.value], [row], "o", color=colour, markersize=5)
                axes.set_yticks(range(len(parts)), parts)
                axes.set_ylim(len(parts) - 0.5, -0.5)
                axes.grid(axis="x", linewidth=0.4)
                axes.set_xlabel(f"{NAMES[area]} above base")
                if area == AREAS[0]:
                    axes.set_title(network, fontsize=10)
        picture.suptitle("green helps, red harms, grey cannot be told, pale: one seed", fontsize=9)
        with open_whole(path) as file:
            picture.savefig(file, format=path.suffix[1:], metadata={"Date": None})


def run(arguments: argparse.Namespace, console: Console) -> int:
    data = read_corpus(arguments.corpus)
    own = dict(read_part(text) for text in arguments.part)
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        raise BadInputError(f"--parts {unknown[0]}: expected some of {', '.join(PARTS)}")
    known = {**PARTS, **own}
    parts = {name: known[name] for name in (*arguments.parts, *own)}
    strange = [name for name in arguments.onto if "recipe" in known.get(name, PLAIN)]
    if strange:
        raise BadInputError(f"--onto {strange[0]}: expected parts, no whole recipe, of {', '.join(known)}")
    onto = {name: known[name] for name in arguments.onto}
    root = Path(arguments.root)
    plans = {
        network: plan(data, network, parts, arguments.seeds, str(root), arguments.epochs, onto)
        for network in arguments.networks
    }
    root.mkdir(parents=True, exist_ok=True)
    ends = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    bases: dict[str, Trainings] = {}
    found: list[Effect] = []
    failed = False
    for network, planned in plans.items():
        for name, reason in planned.left_out.items():
            console.print(f"{network}: without {name}: {reason}", style="dim", soft_wrap=True)
        file = root / f"{network}.yaml"
        write_whole(str(file), planned.comparison.to_yaml())
        minutes = 0.0 if arguments.report_only else None if ends is None else max(0.0, (ends - time.monotonic()) / 60)
        say = partial(console.print, soft_wrap=True)
        progress, evaluations = train_and_read(planned.comparison, file, minutes, say)
        failed |= bool(progress.failed)
        trainings = read_trainings(list(evaluations.values()))
        of_parts = {part: trainings[name] for part, name in planned.recipes.items() if name in trainings}
        if BASE in of_parts:
            bases[network] = of_parts[BASE]
            found += effects(network, of_parts)
    if not bases:
        raise AutotagError("there is nothing to compare: no network's base was trained yet")
    found += means(found)
    console.print(as_table(bases, found))
    write_whole(str(root / "recipe.csv"), as_csv(bases, found))
    written = [root / "recipe.csv"]
    if found:
        draw(found, root / "recipe.svg")
        written.append(root / "recipe.svg")
    for path in written:
        console.print(f"written: {path}", soft_wrap=True)
    return int(failed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, metavar="FILE", help="configuration with the data, or its section")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME", help=f"[{' '.join(NETWORKS)}]")
    parser.add_argument("--parts", nargs="*", default=list(PARTS), metavar="NAME", help=f"[{' '.join(PARTS)}]")
    parser.add_argument("--part", action="append", default=[], metavar="NAME={...}", help="one of your own; repeatable")
    parser.add_argument("--onto", nargs="+", default=[], metavar="NAME", help="parts that the base has [none]")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="[0 1 2]")
    parser.add_argument("--epochs", type=int, help="of every network, in place of its own")
    parser.add_argument("--minutes", type=float, help="stop after so many; the next call goes on")
    parser.add_argument("--report-only", action="store_true", help="train nothing; show what there is")
    parser.add_argument("--root", default="recipe-run", help="[%(default)s]")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 170)
    try:
        return run(arguments, console)
    except AutotagError as error:
        print(f"recipe: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadInputError) else 1


if __name__ == "__main__":
    sys.exit(main())
