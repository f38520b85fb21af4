"""``autotag pretrained``: the trained models of others, listed or made ready."""

from __future__ import annotations

import click

from pipeline.console import completion


@click.command("pretrained", short_help="List trained models of others, or fetch some.")
@click.argument("names", nargs=-1, metavar="[NAME...]", shell_complete=completion.trained_models)
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON, with sources, checksums and notes.")
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the trained models of others that are known; with NAMEs fetch and convert these, and print where they are.

    They lie in the user's cache (AUTOTAG_CACHE; else of Linux XDG_CACHE_HOME/autotag or ~/.cache/autotag) and are whole
    pushed versions, which serve, export and promote take, and `autotag tag --model NAME`. Converting needs TensorFlow,
    tagging does not.

    \b
    Examples:
        autotag pretrained
        autotag pretrained musicnn-msd
        autotag tag song.mp3 --model musicnn-mtt --model musicnn-msd
    """
    if names and as_json:
        raise click.UsageError("--json lists, and takes no NAME")
    if names:
        from pipeline.console.terminal import quieten_tensorflow, say
        from serving.pretrained.ready import ready_version

        quieten_tensorflow()
        for name in names:
            click.echo(ready_version(name, say))
    elif as_json:
        from pipeline.console.terminal import print_json
        from serving.pretrained.listing import as_dicts

        print_json(list(as_dicts()))
    else:
        _print_table()


def _print_table() -> None:
    from rich.console import Console
    from rich.table import Table

    from serving.pretrained.listing import COLUMNS, FIGURES, LEGEND, rows

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in FIGURES else "left", no_wrap=True)
    for row in rows():
        table.add_row(*row)
    wide = Console(highlight=False, width=max(200, Console().width))
    wide.print(table)
    click.echo()
    Console(highlight=False, markup=False).print(LEGEND)
