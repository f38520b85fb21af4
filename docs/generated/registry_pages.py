"""Pages of what can be named: networks, data sets, trained models of others. From their registries."""

from __future__ import annotations

from collections.abc import Iterator

from datasets.dataset import Dataset
from datasets.registry import DATASETS
from models.front_ends.settings import FrontEnd, LogMel, Mfcc, Stft
from models.registry import NETWORKS, Network, Published
from preprocessing.clip_format import PAPER_CLIP
from preprocessing.deformations import EXAMPLES, KINDS, PROTOCOL
from serving.pretrained.catalogue import CATALOGUE, THRESHOLD, TrainedModel

NETWORKS_INTRODUCTION = """# Networks

What `networks:` of a configuration can name, from `models/registry.py`. `autotag networks` lists the same. Figures
are **published** ones, none measured here: ROC-AUC and PR-AUC, macro means over the tags. Figures of different splits
do not compare: [why](../explanation/splits.md). Size and time were measured:
[What we measured](../explanation/measurements.md#networks-size-and-time).

```bash
autotag networks
```
"""

DATA_SETS_INTRODUCTION = """# Data sets

What `--dataset` of a command and `data.dataset` of a configuration can name, from `datasets/`. How to train on
[a published one](../how-to/train-on-a-data-set.md), and on [your own music](../how-to/train-on-your-own-music.md).
What the split rules mean: [Splits](../explanation/splits.md).

```bash
autotag dataset
autotag dataset jamendo music/jamendo
```
"""

TRAINED_INTRODUCTION = f"""# Trained models of others

What `autotag pretrained` lists, `autotag tag --model` takes and `weights:` of a configuration starts from. Figures are
those of their publishers. MTAT `clean` has 4,332 test clips, `folder` 5,329: they do not compare. *Tried*: fetched
or put into the cache by hand, converted, and held against published answers where this list was made. Nobody published
from which probability on a tag counts as heard: {THRESHOLD} stands for every tag.
[How to use them](../how-to/pretrained.md).
"""


def networks() -> str:
    """Return the page of networks, in Markdown: a table of all, then each with its source and its notes."""
    rows = ["| network | hears, s x windows | kHz | input | weights |", "|---|---|---|---|---|"]
    rows += [
        f"| [`{one.name}`](#{one.name}) | {_hears(one)} | {one.sample_rate / 1000:g} | {_front_end(one.front_end)} "
        f"| {one.parameters:,} |"
        for one in NETWORKS.values()
    ]
    return "\n\n".join([NETWORKS_INTRODUCTION, "\n".join(rows), *map(_network, NETWORKS.values())]) + "\n"


def _hears(network: Network) -> str:
    return f"{network.window_seconds:.1f} x {len(_windows(network))}"


def _windows(network: Network) -> tuple[int, ...]:
    """Where the windows of the paper's clip begin over which a network's answers are averaged."""
    rule = network.score_windows.at_rate(PAPER_CLIP.sample_rate, network.sample_rate)
    return rule.starts(PAPER_CLIP.samples, network.window_in(PAPER_CLIP))


def _front_end(front_end: FrontEnd | None) -> str:
    if front_end is None:
        return "waveform"
    if isinstance(front_end, Mfcc):
        return f"MFCC, {front_end.n_mfcc} coefficients"
    if isinstance(front_end, LogMel):
        return f"log-mel, {front_end.n_mels} bands"
    return "STFT" if isinstance(front_end, Stft) else "several log-mels"


def _network(network: Network) -> str:
    counted = f"; {network.published_parameters:,} by its source" if network.published_parameters else ""
    facts = [
        f"- From: {network.source}",
        f"- File: `{network.module.replace('.', '/')}.py`",
        f"- Weights at {network.outputs} outputs: {network.parameters:,} with batch norm's averages{counted}",
    ]
    if network.notes:
        facts.append(f"- What its source leaves open: {network.notes}")
    parts = [f"## {network.name} {{#{network.name}}}", f"{network.title}.", "\n".join(facts)]
    if network.published:
        parts.append("\n".join(_published(network.published)))
    return "\n\n".join(parts)


def _published(figures: tuple[Published, ...]) -> Iterator[str]:
    yield "| trained on | split | ROC-AUC | PR-AUC | where it stands |\n|---|---|---|---|---|"
    for one in figures:
        yield f"| {one.data} | {one.split} | {_figure(one.roc_auc)} | {_figure(one.pr_auc)} | {one.source} |"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def data_sets() -> str:
    """Return the page of data sets, in Markdown: each with its card, subsets, rules and files."""
    return "\n\n".join([DATA_SETS_INTRODUCTION, *map(_data_set, DATASETS.values())]) + "\n"


def _data_set(dataset: Dataset) -> str:
    card = dataset.card
    sources = ", ".join(f"<{one}>" if "://" in one else one for one in card.sources)
    facts = [f"- From: {sources}", f"- Licence: {card.licence}"]
    if card.counts:
        facts.append("- Holds: " + ", ".join(f"{count:,} {what}" for what, count in card.counts.items()))
    if card.citation:
        facts.append(f"- To cite: {card.citation}")
    facts.append("- Lies, below the folder that it was put into, as: " + _layout(dataset))
    if dataset.not_offered:
        facts.append(f"- Not offered for download: {dataset.not_offered}")
    if dataset.tags:
        facts.append(f"- Published list of tags (`--tags-file default`): {', '.join(dataset.tags)}")
    rules = "\n".join(f"| `{name}` | {rule.title} |" for name, rule in dataset.rules.items())
    parts = [f"## {dataset.name} {{#{dataset.name}}}", f"{card.title}.", "\n".join(facts)]
    if dataset.subsets:
        parts.append("\n".join(_subsets(dataset)))
    return "\n\n".join([*parts, f"| split rule | |\n|---|---|\n{rules}"])


def _layout(dataset: Dataset) -> str:
    audio = dataset.layout.audio or "."
    return f"audio `{audio}`, annotations `{dataset.layout.annotations or '.'}`"


def _subsets(dataset: Dataset) -> Iterator[str]:
    yield "| subset | | clips or tracks: train, valid, test | tags |\n|---|---|---|---|"
    for name, subset in dataset.subsets.items():
        counts = ", ".join(f"{count:,}" for count in subset.splits.values())
        yield f"| `{name}` | {subset.title} | {counts} | {subset.n_tags or len(subset.tags) or ''} |"


def trained_models() -> str:
    """Return the page of trained models, in Markdown."""
    rows = [
        "| name | network | trained on | tags | split | ROC-AUC | PR-AUC | MB | licence | tried |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *map(_trained, CATALOGUE.values()),
    ]
    notes = [f"- `{one.name}`: {one.notes}" for one in CATALOGUE.values() if one.notes and one.tried]
    sources = sorted({f"- {one.source}. From {one.place}; licence {one.licence}." for one in CATALOGUE.values()})
    licences = sorted({f"- {one.data_licence}" for one in CATALOGUE.values()})
    parts = [
        TRAINED_INTRODUCTION,
        "\n".join(rows),
        "## What to know",
        "\n".join(notes),
        "## Where they come from",
        "\n".join(sources),
    ]
    return "\n\n".join([*parts, "## Licences of the data", "\n".join(licences)]) + "\n"


def _trained(model: TrainedModel) -> str:
    size = "?" if model.size is None else f"{model.size / 1e6:.1f}"
    cells = [
        f"`{model.name}`",
        f"[`{model.network}`](networks.md#{model.network})",
        model.trained_on,
        str(len(model.tags())),
        model.split,
        _figure(model.roc_auc),
        _figure(model.pr_auc),
        size,
        model.licence,
        "yes" if model.tried else "no",
    ]
    return f"| {' | '.join(cells)} |"


DEFORMATIONS_INTRODUCTION = """# Deformations

What `robustness.deformations` and `gate.robustness` of a configuration, and `deformations` of a comparison, can name:
KIND_STRENGTH, such as EXAMPLES. They are in `preprocessing/deformations.py`.
[How to test robustness](../how-to/robustness.md).
"""


def deformations() -> str:
    """Return the page of deformations, in Markdown."""
    rows = ["| name | what happens to a clip | strength |", "|---|---|---|"]
    for name, kind in KINDS.items():
        strengths = ", ".join(f"`{preset}`" for preset in kind.presets)
        rows.append(f"| `{name}_X` | {kind.what} | {strengths or f'{kind.unit}, {kind.low:g} to {kind.high:g}'} |")
    examples = ", ".join(f"`{one}`" for one in EXAMPLES.split(", "))
    protocol = ", ".join(f"`{one}`" for one in PROTOCOL)
    words = f"Those of the comparison of 2020 (Won et al., arXiv 2006.00751) are {protocol}. It stretches whole songs."
    return "\n\n".join([DEFORMATIONS_INTRODUCTION.replace("EXAMPLES", examples), "\n".join(rows), words]) + "\n"
