"""``autotag completion``: what lets a shell complete commands, options, names and files."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print what lets bash, zsh or fish complete.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print what lets SHELL complete commands, options, files, and names of models, networks and data sets.

    \b
    Examples:
        eval "$(autotag completion bash)"
        autotag completion bash >> ~/.bashrc
        autotag completion zsh > ~/.zfunc/_autotag
        autotag completion fish > ~/.config/fish/completions/autotag.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "autotag", "_AUTOTAG_COMPLETE").source())
