"""A run's results as one HTML page that needs no network: scores beside published ones, tags, curves, data, nodes.

Published figures stand with their data and split: those of another split compare with nothing. Of a run that stopped
half-way the page says what is missing and why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import jinja2
from markupsafe import Markup

from pipeline.reports.plots import combiner_curves, network_curves, robustness_bars
from pipeline.reports.report_contents import REJECTS_SHOWN, TRAINER, Report, collect, existing_output, why_missing
from pipeline.reports.report_rows import measured
from pipeline.runs.run_record import Run
from pipeline.tag_map.picture import page_picture
from pipeline.tag_map.vectors import FEWEST, of_network_files
from preprocessing.constants import SPLITS
from preprocessing.errors import BadInputError
from serving.library.layout import lay_out

TEMPLATES: Final = Path(__file__).parent / "templates"
NETWORK_FILE: Final = Path("Format-Keras") / "model.keras"
"""Of a Trainer's model (components.trained_network, which imports TensorFlow)."""


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


def rounded(value: float, digits: int = 4) -> str:
    """Format a figure: thousands with commas, so many decimals."""
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
    folders = {name.removeprefix(TRAINER): existing_output(run, name, "model") for name in trained}
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
        "rounded": rounded,
        "duration": duration,
        "measured": measured,
    }
    tags = report.data.summary["tags"] if report.data.summary else {}
    state, sentence = verdict(report.run)
    network_svg, combiner_svg = curves(report)
    map_svg, map_caption = tag_map(report)
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
        map_caption=map_caption,
        rejects_shown=REJECTS_SHOWN,
        seconds=sum(node.seconds for node in report.run.nodes),
    )


def write_report(run: Run, root: Path, path: Path) -> None:
    """Write a run's page to a file, its folder made where it is not there."""
    page = render(collect(run, root))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
