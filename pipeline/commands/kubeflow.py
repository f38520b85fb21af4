"""``autotag kubeflow``: the pipeline, or a comparison, on a Kubeflow Pipelines server, now or by the clock."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from pipeline.kubeflow.console import (
    compile_settings,
    connect_to,
    data_versions,
    duration,
    load_settings,
    print_table,
    wait_for,
    write_newest_metrics,
)

_CONFIG = click.argument("config", required=False, type=click.Path())
_SET = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting; repeatable.")
_HOST = click.option("--host", help="Address of the API; else kubeflow.host, else KF_PIPELINES_ENDPOINT.")
_EXPERIMENT = click.option("--experiment", help="Experiment; else kubeflow.experiment.")
_TOKEN = click.option(
    "--token-env", metavar="VARIABLE", help="Environment variable with a bearer token; else kubeflow.token_env."
)
_SERVICE_ACCOUNT = click.option(
    "--service-account", metavar="NAME", help="Kubernetes service account of the steps; else kubeflow.service_account."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _options(*options: Callable[[Any], Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.group()
def command() -> None:
    """Run the pipeline, or a comparison, on Kubeflow Pipelines, once or on a schedule.

    CONFIG is the file of `autotag run` or of `autotag compare`; its section `kubeflow` says image, volumes, resources
    of each step and where artifacts go. Paths in it are those that the steps see.

    A comparison is one pipeline: trainings side by side, as far as the cluster has room, and a last step `Comparison`
    that writes comparison.csv, .json and .html as an artifact and into kubeflow.work_dir. It needs all of them: if one
    fails, the others still end, and submitted again without it, or mended, they come from the cache.

    \b
    Examples:
        autotag kubeflow submit my.yaml --host http://localhost:8888
        autotag kubeflow submit my_comparison.yaml --set 'kubeflow.steps={Trainer_*: {memory: 16Gi, gpus: 1}}'
        autotag kubeflow schedule my.yaml --cron "0 0 2 * * 1"
    """


@command.command("compile")
@_options(_CONFIG, _SET)
@click.option("-o", "--out", type=click.Path(path_type=Path), default="pipeline.yaml", show_default=True)
def compile_(config: str | None, overrides: tuple[str, ...], out: Path) -> None:
    """Write the pipeline as a file that Kubeflow Pipelines takes (schema 2.1.0).

    Data are read as they are when a run begins. Upload the file by hand, or let `submit` and `schedule` do it; give
    each run kubeflow.pipeline_root as its pipeline root.

    \b
    Example:
        autotag kubeflow compile my.yaml -o pipeline.yaml
    """
    from preprocessing.storage import write_whole

    settings = load_settings(config, overrides)
    write_whole(str(out.absolute()), compile_settings(settings, {}))
    click.echo(f"written: {out}")


@command.command()
@_options(_CONFIG, _SET, _HOST, _TOKEN, _EXPERIMENT)
@click.option("--name", help="Of the run; pipeline and time unless given.")
@_options(_SERVICE_ACCOUNT)
@click.option(
    "--wait", is_flag=True, help="Until the run has ended; prints each step's states. Exit code 1 if it fails."
)
def submit(
    config: str | None,
    overrides: tuple[str, ...],
    host: str | None,
    token_env: str | None,
    experiment: str | None,
    name: str | None,
    service_account: str | None,
    wait: bool,
) -> None:
    """Run the pipeline now.

    Where the audio can be seen from here under the same path or address, its checksums go with the run: what an earlier
    run made of the same data comes from the cache, and data that change before the run reads them stop it. Otherwise
    the run reads the data as they are and makes everything anew.

    \b
    Examples:
        autotag kubeflow submit my.yaml --host http://localhost:8888 --set networks.mel_2d.epochs=40
        autotag kubeflow submit my.yaml --wait
    """
    settings = load_settings(config, overrides)
    server = connect_to(settings, host, token_env)
    text = compile_settings(settings, data_versions(settings))
    version = server.publish(settings.name, text)
    click.echo(f"pipeline {settings.name}, version {version.name}: {'uploaded' if version.new else 'is there already'}")
    run_name = name or f"{settings.name} {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
    experiment = experiment or settings.kubeflow.experiment
    account = service_account or settings.kubeflow.service_account
    run_id = server.run(version, run_name, experiment, settings.kubeflow.pipeline_root, account)
    page = f"{server.host}/#/runs/details/{run_id}"
    click.echo(f"run {run_name}: {page}")
    if wait:
        wait_for(server, run_id, run_name, page, text)


@command.command()
@_options(_CONFIG, _SET, _HOST, _TOKEN, _EXPERIMENT)
@click.option("--cron", required=True, help="Six fields, seconds first: '0 0 2 * * 1' is Mondays at two, UTC.")
@click.option("--name", help="Of the recurring run; the pipeline's unless given.")
@_options(_SERVICE_ACCOUNT)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
def schedule(
    config: str | None,
    overrides: tuple[str, ...],
    host: str | None,
    token_env: str | None,
    experiment: str | None,
    cron: str,
    name: str | None,
    service_account: str | None,
    dry_run: bool,
) -> None:
    """Run the pipeline by the clock.

    One run at a time; runs that were missed are not made up for; each reads the data as they are then. Called again
    with the same name it changes what differs, and nothing where nothing does. A schedule of that name and pipeline in
    another experiment is moved.

    \b
    Example:
        autotag kubeflow schedule my.yaml --cron "0 0 2 * * 1" --dry-run
    """
    import hashlib

    from pipeline.kubeflow.schedules import Schedule, check_cron, describe_changes

    cron = check_cron(cron)
    settings = load_settings(config, overrides)
    experiment = experiment or settings.kubeflow.experiment
    server = connect_to(settings, host, token_env)
    text = compile_settings(settings, {})
    wanted = Schedule(
        name or settings.name,
        cron,
        hashlib.sha256(text.encode()).hexdigest(),
        settings.kubeflow.pipeline_root,
        experiment,
        service_account=service_account or settings.kubeflow.service_account,
    )
    found = server.find_schedules(wanted.name, experiment, settings.name)
    changes = describe_changes(found, wanted)
    for line in changes or [f"{wanted.name}: is as it should be, at {wanted.cron}; nothing to change"]:
        click.echo(line)
    if dry_run or not changes:
        return
    server.schedule(wanted, server.publish(settings.name, text), found)
    click.echo(f"done: {wanted.name} runs at {wanted.cron}")


@command.command()
@_options(_CONFIG, _SET, _HOST, _TOKEN, _EXPERIMENT, _JSON)
def schedules(
    config: str | None,
    overrides: tuple[str, ...],
    host: str | None,
    token_env: str | None,
    experiment: str | None,
    as_json: bool,
) -> None:
    """List recurring runs.

    \b
    Example:
        autotag kubeflow schedules my.yaml
    """
    settings = load_settings(config, overrides)
    found = connect_to(settings, host, token_env).schedules(experiment or settings.kubeflow.experiment)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1))
        return
    rows = [
        (one.schedule.name, one.schedule.cron, one.status, one.schedule.pipeline[:12], one.identity) for one in found
    ]
    print_table(("name", "cron", "status", "pipeline", "id"), rows)


@command.command()
@click.argument("name")
@_options(_CONFIG, _SET, _HOST, _TOKEN, _EXPERIMENT)
@click.option("--dry-run", is_flag=True, help="Say what would be deleted, and delete nothing.")
def unschedule(
    name: str,
    config: str | None,
    overrides: tuple[str, ...],
    host: str | None,
    token_env: str | None,
    experiment: str | None,
    dry_run: bool,
) -> None:
    """Delete the recurring run NAME; runs that it began go on.

    \b
    Example:
        autotag kubeflow unschedule autotag-mtat my.yaml
    """
    from preprocessing.errors import BadInputError

    settings = load_settings(config, overrides)
    experiment = experiment or settings.kubeflow.experiment
    server = connect_to(settings, host, token_env)
    there = server.schedules(experiment)
    found = [one for one in there if one.schedule.name == name]
    if not found:
        listed = ", ".join(sorted(one.schedule.name for one in there)) or "none"
        raise BadInputError(f"{experiment} has no recurring run {name!r}; it has {listed}")
    for one in found:
        if not dry_run:
            server.unschedule(one)
        click.echo(f"{'would be deleted' if dry_run else 'deleted'}: {name}, at {one.schedule.cron} ({one.identity})")


@command.command()
@_options(_CONFIG, _SET, _HOST, _TOKEN, _EXPERIMENT, _JSON)
@click.option("--limit", default=20, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option(
    "--metrics-file", metavar="FILE", help="Write the newest ended run's metrics there, for Prometheus, besides."
)
@click.option("--metadata", metavar="HOST:PORT", help="Kubeflow's ML Metadata, for figures; else kubeflow.metadata.")
def runs(
    config: str | None,
    overrides: tuple[str, ...],
    host: str | None,
    token_env: str | None,
    experiment: str | None,
    as_json: bool,
    limit: int,
    metrics_file: str | None,
    metadata: str | None,
) -> None:
    """List runs, the newest first.

    With --metrics-file the newest run of CONFIG's pipeline that has ended is written for node_exporter's textfile
    collector, with the metrics that `autotag run` writes, runs that were killed too. ROC-AUC and the like, and which
    steps came from the cache, need --metadata (port 8080 of the service metadata-grpc-service).

    \b
    Examples:
        autotag kubeflow runs my.yaml --limit 5
        autotag kubeflow runs my.yaml --metrics-file /var/lib/node_exporter/autotag.prom --metadata localhost:8080
    """
    settings = load_settings(config, overrides)
    experiment = experiment or settings.kubeflow.experiment
    server = connect_to(settings, host, token_env)
    if metrics_file:
        write_newest_metrics(server, settings, experiment, metadata or settings.kubeflow.metadata, metrics_file)
    found = server.runs(experiment, limit)
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=1, default=str))
        return
    rows = [
        (one.name, one.state, f"{one.created:%Y-%m-%d %H:%M}", duration(one.created, one.finished), one.identity)
        for one in found
    ]
    print_table(("run", "state", "began", "took", "id"), rows)
    for one in found:
        if one.error:
            click.echo(f"{one.name}: {one.error}")
