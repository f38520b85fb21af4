"""A run's results as one HTML page that needs no network: scores beside published ones, tags, curves, data, nodes.

The table has the form of Bengani, Vadivel and Jothi, 'Efficient Music Auto-Tagging with Convolutional Neural Networks'
(2019), Table 5, with the networks of the run. Published figures stand with their data and split: those of another split
compare with nothing. Of a run that stopped half-way the page says what is missing and why.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import jinja2
import yaml
from markupsafe import Markup
from pydantic import ValidationError

from components.anomalies import anomalies_file, describe_anomalies
from models.heads import Heads
from models.registry import NETWORKS, Published
from pipeline.config import PipelineConfig
from pipeline.plots import combiner_curves, network_curves, robustness_bars
from pipeline.run_record import Run
from pipeline.tag_map.picture import page_picture
from pipeline.tag_map.vectors import FEWEST, of_network_files
from preprocessing.constants import SPLITS
from preprocessing.errors import BadInputError
from serving.library.layout import lay_out

TEMPLATES: Final = Path(__file__).parent / "templates"
NOT_MEASURED: Final = "not measured"
REJECTS_SHOWN: Final = 20
CONFIG_BEFORE_RUN: Final = timedelta(minutes=5)
"""A configuration is saved just before its run begins; an older one is another run's."""

TRAINER: Final = "Trainer_"
"""Begins the name of a network's node."""
NETWORK_FILE: Final = Path("Format-Keras") / "model.keras"
"""Of a Trainer's model (components.trained_network, which imports TensorFlow)."""


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper's Table 5: macro ROC-AUC, seconds for 1,000 clips on a V100, MB where it is stated."""

    roc_auc: float
    seconds: float
    megabytes: float | None = None


PAPER_TABLE: Final = {
    frozenset({"mel_1d"}): PaperRow(0.857, 0.48, 13.59),
    frozenset({"mel_2d"}): PaperRow(0.891, 1.76, 8.14),
    frozenset({"waveform_1d"}): PaperRow(0.783, 9.03, 3.09),
    frozenset({"mel_1d", "mel_2d"}): PaperRow(0.894, 2.07),
    frozenset({"mel_1d", "waveform_1d"}): PaperRow(0.883, 9.24),
    frozenset({"mel_2d", "waveform_1d"}): PaperRow(0.905, 9.78),
    frozenset({"mel_1d", "mel_2d", "waveform_1d"}): PaperRow(0.910, 10.61),
}
"""By the networks' names in the registry."""
PAPER_SPLIT: Final = ("MTAT", "paper")


@dataclass(frozen=True)
class ModelRow:
    """One row of the table: figures of a network or an ensemble, None where they were not measured, and published ones.

    Attributes:
        name: as the configuration calls it.
        what: which networks, and how they are combined.
        published: figures of the network, each with its data and split.
        paper: the paper's row for the same networks, if it has one.
        exported: whether it is what is pushed.
    """

    name: str
    what: str
    published: tuple[Published, ...]
    paper: PaperRow | None
    exported: bool
    roc_auc: float | None = None
    pr_auc: float | None = None
    accuracy: tuple[tuple[str, float | None], ...] = ()
    seconds: float | None = None
    megabytes: float | None = None

    def published_figures(self, key: str) -> list[str]:
        """Return the published ``roc_auc`` or ``pr_auc``, each with its data and split."""
        figures = [(getattr(one, key), one.data, one.split) for one in self.published]
        return [f"{value:.3f} ({data}, {split})" for value, data, split in figures if value is not None]


@dataclass(frozen=True)
class TagRow:
    """How well one tag is told apart by the exported model; positives in the test split where that is known."""

    tag: str
    roc_auc: float | None
    pr_auc: float | None
    test_positives: int | None
    head: str = ""


@dataclass(frozen=True)
class TagScale:
    """Where the bars of ROC-AUC begin and end; they start from 0.5, which is chance."""

    lowest: float

    def place(self, value: float) -> float:
        """Per cent of the scale's width."""
        return 100 * (value - self.lowest) / (1 - self.lowest)

    def bar(self, value: float) -> tuple[float, float]:
        """Left edge and width, in per cent."""
        left, right = sorted((self.place(0.5), self.place(value)))
        return left, right - left


@dataclass(frozen=True)
class Data:
    """What went into the run.

    Attributes:
        summary: summary.json of the examples (preprocessing.output_folder.summarise).
        rejects: the first lines of rejected.jsonl.
        anomalies: what ExampleValidator found, one line each; None where it did not run.
    """

    summary: dict[str, Any] | None = None
    rejects: tuple[dict[str, str], ...] = ()
    anomalies: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Report:
    """All that the page shows."""

    run: Run
    models: tuple[ModelRow, ...]
    tags: tuple[TagRow, ...]
    data: Data
    network_histories: tuple[dict[str, Any], ...]
    combiner_histories: tuple[dict[str, Any], ...]
    configuration: str | None
    missing: dict[str, str] = field(default_factory=dict)
    """Node -> why it has nothing to show."""

    @property
    def settings(self) -> dict[str, Any]:
        """The configuration's values, empty where it is not known."""
        return yaml.safe_load(self.configuration) or {} if self.configuration else {}

    @property
    def robustness_limits(self) -> dict[str, float]:
        """Deformation -> drop of ROC-AUC that the gate allows."""
        return dict((self.settings.get("gate") or {}).get("robustness") or {})

    @property
    def exported(self) -> ModelRow:
        """The exported model's row, without figures where none was exported."""
        return next((row for row in self.models if row.exported), ModelRow("", "", (), None, False))

    @property
    def scored_tags(self) -> list[TagRow]:
        """Tags with both classes in the test split, the best first."""
        scored = [row for row in self.tags if row.roc_auc is not None]
        return sorted(scored, key=lambda row: -(row.roc_auc or 0))

    @property
    def scored_heads(self) -> dict[str, list[TagRow]]:
        """Scored tags by head, in the order of the heads; one group without a name where there is one head."""
        groups: dict[str, list[TagRow]] = {row.head: [] for row in self.tags}
        for row in self.scored_tags:
            groups[row.head].append(row)
        return groups if len(groups) > 1 else {"": self.scored_tags}

    @property
    def unscored_tags(self) -> list[TagRow]:
        """Tags of which the test split has one class only."""
        return [row for row in self.tags if row.roc_auc is None]

    @property
    def tag_scale(self) -> TagScale:
        """The scale on which all scored tags find room."""
        lowest = min([0.5, *(row.roc_auc for row in self.tags if row.roc_auc is not None)])
        return TagScale(math.floor(lowest * 10) / 10)


def collect(run: Run, root: Path) -> Report:
    """Read what a run left.

    Args:
        run: of ML Metadata.
        root: the pipeline's root, where its configurations lie.
    """
    data = _read_data(run)
    shown = _existing(run, "EnsembleTrainer", "model_run")
    configuration = find_configuration(root, run.run_id)
    config = _parsed(configuration)
    trained = [node.node.removeprefix(TRAINER) for node in run.nodes if node.node.startswith(TRAINER)]
    networks = list(dict.fromkeys([*(config.networks if config else ()), *trained]))
    histories = [(name, _read(run, f"{TRAINER}{name}", "model_run", "history.json")) for name in networks]
    combiners = _read(run, "EnsembleTrainer", "model_run", "history.json") or {}
    found = {
        "ClipExampleGen": data.summary,
        "ExampleValidator": data.anomalies,
        "EnsembleTrainer": run.scores if shown else None,
        **{f"{TRAINER}{name}": history for name, history in histories},
        "Evaluator": run.blessed,
        **({"RobustnessScorer": run.robustness or None} if _asks_robustness(run, config) else {}),
        "Pusher": run.node("Pusher"),
    }
    return Report(
        run=run,
        models=tuple(_model_rows(run, config)),
        tags=tuple(_tag_rows(run, data.summary)),
        data=data,
        network_histories=tuple(history for _, history in histories if history),
        combiner_histories=tuple(combiners.get("combiners", ())),
        configuration=configuration,
        missing={node: why_missing(run, node) for node, value in found.items() if value is None},
    )


def _asks_robustness(run: Run, config: PipelineConfig | None) -> bool:
    return bool(config and config.deformations) or run.node("RobustnessScorer") is not None


def _existing(run: Run, node: str, key: str) -> Path | None:
    folder = run.output(node, key)
    return folder if folder and folder.is_dir() else None


def _read(run: Run, node: str, key: str, name: str) -> dict[str, Any] | None:
    folder = _existing(run, node, key)
    if folder is None or not (folder / name).exists():
        return None
    values: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return values


def _read_data(run: Run) -> Data:
    folder = _existing(run, "ClipExampleGen", "examples")
    rejects: list[dict[str, str]] = []
    if folder and (folder / "rejected.jsonl").exists():
        with (folder / "rejected.jsonl").open(encoding="utf-8") as file:
            rejects = [json.loads(line) for line in itertools.islice(file, REJECTS_SHOWN)]
    return Data(_read(run, "ClipExampleGen", "examples", "summary.json"), tuple(rejects), _read_anomalies(run))


def _read_anomalies(run: Run) -> tuple[str, ...] | None:
    folder = _existing(run, "ExampleValidator", "anomalies")
    if folder is None:
        return None
    files = {split: Path(anomalies_file(str(folder), split)) for split in SPLITS}
    return tuple(describe_anomalies({split: path.read_bytes() for split, path in files.items() if path.exists()}))


def why_missing(run: Run, node: str) -> str:
    """Say why a node has nothing to show."""
    found = run.node(node)
    if found is None:
        return f"{node} did not run"
    endings = {"failed": "failed", "running": "has not finished", "canceled": "was stopped"}
    if found.state in endings:
        return f"{node} {endings[found.state]}"
    return f"what {node} wrote is no longer there"


def _measured(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _parsed(configuration: str | None) -> PipelineConfig | None:
    """The settings of a run; None where they are not known or another version of autotag wrote them."""
    try:
        return PipelineConfig.model_validate(yaml.safe_load(configuration)) if configuration else None
    except ValidationError:
        return None


def _model_rows(run: Run, config: PipelineConfig | None) -> list[ModelRow]:
    """What was scored, in the order of the scores; before that what the configuration asks for."""
    rows = (run.scores or {}).get("models")
    if rows is None and config is not None:
        rows = [{"name": name, "networks": [name], "network": config.network(name).name} for name in config.networks]
        rows += [
            {"name": name, "networks": list(one.of), "combiner": one.combiner, "fit": one.fit}
            for name, one in config.all_combinations().items()
        ]
    entries = {row["name"]: row["network"] for row in rows or () if "network" in row}
    return [_model_row(row, entries, run.ensemble) for row in rows or ()]


def _model_row(row: Mapping[str, Any], entries: Mapping[str, str], exported: str | None) -> ModelRow:
    """``entries``: the configuration's name of a network -> its name in the registry."""
    networks = [entries.get(name, name) for name in row["networks"]]
    paper = PAPER_TABLE.get(frozenset(networks)) if len(set(networks)) == len(networks) else None
    if "combiner" in row:
        what = f"{' + '.join(row['networks'])}; {row['combiner']}"
        published: tuple[Published, ...] = (
            () if paper is None else (Published(*PAPER_SPLIT, paper.roc_auc, None, "Table 5"),)
        )
    else:
        known = NETWORKS.get(networks[0])
        what, published = (networks[0], ()) if known is None else (known.title, known.published)
    return ModelRow(
        row["name"],
        what,
        published,
        paper,
        exported=row["name"] == exported,
        roc_auc=_measured(row.get("roc_auc")),
        pr_auc=_measured(row.get("pr_auc")),
        accuracy=tuple((head, _measured(value)) for head, value in row.get("accuracy", {}).items()),
        seconds=_measured(row.get("seconds_for_1000_clips")),
        megabytes=_measured(row.get("megabytes")),
    )


def _tag_rows(run: Run, summary: dict[str, Any] | None) -> list[TagRow]:
    """The exported model's tags, in the vocabulary's order."""
    models = (run.scores or {}).get("models", ())
    per_tag: dict[str, list[float]] = next((row["per_tag"] for row in models if row["name"] == run.ensemble), {})
    counts = summary["tags"] if summary else {}
    heads = _heads_of_tags(run.scores or {})
    return [
        TagRow(tag, _measured(roc_auc), _measured(pr_auc), counts.get(tag, {}).get("test"), heads.get(tag, ""))
        for tag, (roc_auc, pr_auc) in per_tag.items()
    ]


def _heads_of_tags(scores: Mapping[str, Any]) -> dict[str, str]:
    """Tag -> its head, in the words of the page; empty for scores without heads."""
    tags = scores.get("tags", [])
    return {
        tag: f"{head.name} ({head.kind})"
        for head, at in Heads.from_json(scores.get("heads", [])).slices()
        for tag in tags[at]
    }


def find_configuration(root: Path, run_id: str) -> str | None:
    """Return the YAML that a run was made from, None where it was not kept.

    It is saved under the time at which the run was asked for, a little before TFX gives the run its own id.
    """
    folder = root / "configs"
    exact = folder / f"{run_id}.yaml"
    if exact.is_file():
        return exact.read_text(encoding="utf-8")
    began = _time(run_id)
    times = {path: _time(path.stem) for path in folder.glob("*.yaml")}
    before = {path: time for path, time in times.items() if time and began and time <= began}
    newest = max(before, key=lambda path: before[path], default=None)
    if newest is None or began is None or began - before[newest] > CONFIG_BEFORE_RUN:
        return None
    return newest.read_text(encoding="utf-8")


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def verdict(run: Run) -> tuple[str, str]:
    """Say in a word (``pushed``, ``refused``, ``failed``, ``open``) and in a sentence what became of the model."""
    figures = str(run.gate)
    if run.pushed:
        return "pushed", _sentences(f"Pushed as version {run.pushed_version}", figures)
    if run.blessed is False:
        return "refused", _sentences(f"Refused by the gate, not pushed: {'; '.join(run.gate_reasons) or figures}")
    failed = ", ".join(node.node for node in run.nodes if node.state == "failed")
    if failed:
        return "failed", _sentences(f"Not pushed: {failed} failed", figures)
    if run.blessed:
        return "open", _sentences(f"Passed the gate, not pushed: {why_missing(run, 'Pusher')}", figures)
    return "open", _sentences(f"Not pushed: {why_missing(run, 'Evaluator')}")


def _sentences(*parts: str) -> str:
    return " ".join(f"{part.rstrip('.')}." for part in parts if part)


def figure(value: float | None, digits: int = 4, missing: str = NOT_MEASURED) -> str | Markup:
    """Format a figure; what was not measured is said."""
    if value is None:
        return Markup('<span class="missing">{}</span>').format(missing)
    return f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Format seconds as a person would say them: ``4.2 s``, ``12 min 5 s``, ``3 h 20 min``."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def curves(report: Report) -> tuple[Markup | None, Markup | None]:
    """Draw the networks' and the combiners' training; None where there is nothing to draw."""
    networks, combiners = report.network_histories, report.combiner_histories
    return (
        Markup(network_curves(networks, [history["name"] for history in networks])) if networks else None,
        Markup(combiner_curves(combiners, [history["name"] for history in combiners])) if combiners else None,
    )


def tag_map(report: Report) -> tuple[Markup | None, str]:
    """Draw the tags by the last layers of the run's networks, and say which ones; else why there is nothing to draw."""
    run, tags = report.run, (report.run.scores or {}).get("tags", [])
    trained = [node.node for node in run.nodes if node.node.startswith(TRAINER) and node.state in ("done", "cached")]
    folders = {name.removeprefix(TRAINER): _existing(run, name, "model") for name in trained}
    files = {name: folder / NETWORK_FILE for name, folder in folders.items() if folder is not None}
    there = {name: path for name, path in files.items() if path.is_file()}
    if not there:
        return None, "no trained network of this run is there any more" if trained else "no network was trained"
    if not tags:
        return None, f"{why_missing(run, 'EnsembleTrainer')}, which says what the tags are called"
    if len(tags) < FEWEST:
        return None, f"a map needs {FEWEST} tags"
    try:
        vectors = of_network_files(there, tags, f"the last layers of {', '.join(there)}")
    except BadInputError as error:
        return None, str(error)
    return Markup(page_picture(vectors, lay_out(vectors.vectors))), ", ".join(there)


def render(report: Report) -> str:
    """Return the page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "duration": duration,
        "measured": _measured,
    }
    tags = report.data.summary["tags"] if report.data.summary else {}
    state, sentence = verdict(report.run)
    network_svg, combiner_svg = curves(report)
    map_svg, map_words = tag_map(report)
    return environment.get_template("report.html").render(
        report=report,
        run=report.run,
        scores=report.run.scores or {},
        summary=report.data.summary,
        exported=report.exported,
        most_clips=max((sum(counts.values()) for counts in tags.values()), default=0),
        splits=SPLITS,
        verdict_state=state,
        verdict=sentence,
        network_svg=network_svg,
        combiner_svg=combiner_svg,
        robustness_svg=Markup(robustness_bars(report.run.robustness)) if report.run.robustness else None,
        map_svg=map_svg,
        map_words=map_words,
        rejects_shown=REJECTS_SHOWN,
        seconds=sum(node.seconds for node in report.run.nodes),
    )


def write_report(run: Run, root: Path, path: Path) -> None:
    """Write a run's page to a file, its folder made where it is not there."""
    page = render(collect(run, root))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
