"""What a shell completes, for parameters whose type alone does not tell it. Nothing heavy is imported for it."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def files(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Let the shell complete files and folders, of what is text because it may also be an address or a pattern."""
    return [CompletionItem(incomplete, type="file")]


def folders(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Likewise folders alone."""
    return [CompletionItem(incomplete, type="dir")]


def trained_models(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of trained models of others."""
    from serving.pretrained.catalogue import CATALOGUE

    return _names({name: f"{model.network}, {model.trained_on}" for name, model in CATALOGUE.items()}, incomplete)


def models(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of trained models of others, and the folders of pushed ones."""
    return [*folders(ctx, parameter, incomplete), *trained_models(ctx, parameter, incomplete)]


def networks(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of networks."""
    from models.registry import NETWORKS

    return _names({name: network.title for name, network in NETWORKS.items()}, incomplete)


def datasets(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete names of data sets."""
    from datasets.registry import DATASETS

    return _names({name: dataset.card.title for name, dataset in DATASETS.items()}, incomplete)


def jobs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the jobs of `autotag doctor`."""
    from pipeline.doctor.jobs import JOBS

    return _names({name: job.commands for name, job in JOBS.items()}, incomplete)


def _names(known: dict[str, str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name, help=words) for name, words in known.items() if name.startswith(incomplete)]
