"""``autotag doctor``: what is installed and works here, and for which job something is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.console import completion
from preprocessing.names import escaped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipeline.doctor.examination import Examined
    from pipeline.doctor.findings import State

SECTIONS: Final = {
    "program": "Programs",
    "engine": "Engines",
    "audio": "Audio",
    "machine": "Machine",
}
STYLES: Final = {"ok": "green", "missing": "yellow", "broken": "red"}


class JobName(click.ParamType):
    """A job that doctor knows."""

    name = "JOB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the job."""
        from pipeline.doctor.jobs import find_job

        return find_job(value)


@click.command("doctor", short_help="Say what works here, and what is missing for which job.")
@click.option(
    "--for",
    "jobs",
    multiple=True,
    type=JobName(),
    shell_complete=completion.jobs,
    help="Look at this job alone, and load what it needs, too; exit code 1 where something is missing. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(jobs: tuple[Any, ...], as_json: bool) -> None:
    """Say what is installed and works here, and what is missing for which job, with what brings it.

    Engines are loaded and compute something, programs are started, each in a process of its own. TFX and Beam are
    loaded only where a job is asked for that needs them (--for train takes half a minute).

    \b
    Examples:
        autotag doctor
        autotag doctor --for tag --for page
        autotag doctor --json
    """
    from rich.console import Console

    from pipeline.console.terminal import print_json
    from pipeline.doctor.examination import examine

    with Console(stderr=True).status("looking around"):
        examined = examine(jobs)
    if as_json:
        print_json(examined.to_json())
    else:
        _print(examined, Console(highlight=False))
    if jobs and examined.hindered:
        sys.exit(1)


def _print(examined: Examined, console: Console) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for section, title in SECTIONS.items():
        findings = [finding for finding in examined.findings if finding.section == section]
        if findings:
            _add_title(table, title)
        for finding in findings:
            _add(table, finding.state, finding.name, finding.detail, finding.remedy)
    extras = [finding for finding in examined.findings if finding.section == "extra"]
    _add_title(table, "Extras")
    if whole := [extra.name for extra in extras if extra.state == "ok"]:
        _add(table, "ok", "whole", ", ".join(whole))
    for extra in extras:
        if extra.state != "ok":
            _add(table, extra.state, extra.name, extra.detail, extra.remedy)
    _add_title(table, "Jobs")
    if not examined.tried:
        _add(table, None, "", "by what is installed; --for JOB loads what a job needs, too")
    for job, lacks in examined.jobs:
        _add(table, "missing" if any(lack.hinders for lack in lacks) else "ok", job.name, job.commands)
        for lack in lacks:
            _add(table, None, "", f"{'lacks' if lack.hinders else 'better with'} {lack.what}", lack.remedy)
    console.print(table)


def _add_title(table: Table, title: str) -> None:
    from rich.text import Text

    table.add_row(Text(title, style="bold"))


def _add(table: Table, state: State | None, name: str, detail: str, remedy: str = "") -> None:
    from rich.text import Text

    text = Text(escaped(detail))
    if remedy:
        text.append(" -> " if detail else "-> ", style="dim").append(remedy, style="cyan")
    table.add_row(Text(state or "", style=STYLES.get(state or "", "")), Text(name), text)
