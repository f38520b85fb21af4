"""``autotag page``: a page on this machine to listen, look, compare, find and correct."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.console import completion
from pipeline.console.server_options import encryption_options
from pipeline.console.terminal import decoders_notes_hidden, quieten_tensorflow, say
from preprocessing.errors import BadInputError

if TYPE_CHECKING:
    from serving.page.leaderboards import Leaderboards

DEFAULT_PORT: Final = 8470
CORRECTIONS_NAME: Final = "autotag-corrections.csv"
TOKEN_BYTES: Final = 16


@click.command("page", short_help="Open a page to listen, look, compare and find.")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME|DIR",
    shell_complete=completion.models,
    help="A pushed model or the folder of its versions, or a trained model that `autotag pretrained` lists; the first "
    "is asked unless another is chosen at the page, where all trained ones are listed, too.  [default: as of `autotag "
    "tag`]",
)
@click.option("--server", metavar="HOST:PORT|URL", help="Also the model of this TF Serving; a URL means REST.")
@encryption_options
@click.option(
    "--config",
    "configs",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Show what came of this configuration: a comparison's as a leaderboard, `autotag run`'s as a list of runs.",
)
@click.option(
    "--corrections",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Where tags are kept that people mark.  [default: FOLDER/{CORRECTIONS_NAME}, when one is marked]",
)
@click.option(
    "--index",
    "index_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="What `autotag index` wrote.  [default: FOLDER/autotag-index.sqlite, also when it comes later]",
)
@click.option("--host", default="localhost", show_default=True, help="Name or address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0: any free one.")
@click.option("--token", help="That everybody must know; made up where --host is not this machine alone.")
@click.option("--name", "names", multiple=True, metavar="HOST", help="Another name by which browsers call the server.")
@click.option("--browser/--no-browser", default=None, help="Open a browser.  [default: where there is a desktop]")
def command(folder: Path | None, host: str, port: int, browser: bool | None, **options: Any) -> None:
    """Open a page to listen to songs of FOLDER and your own, see their tags, and compare models.

    Only this machine can reach it, unless --host says otherwise; then everybody must have the token in the address that
    is printed. Files outside FOLDER are never given out. Ctrl-C ends it.

    \b
    Examples:
        autotag page
        autotag page music
        autotag page music --model my-run/pushed --model musicnn-mtt
        autotag page music --server localhost:8500
        autotag page music --config pipeline/configs/compare/demo.yaml --config my.yaml
        autotag page music --host 0.0.0.0
    """
    from serving.library.places import INDEX_NAME
    from serving.page.app import Settings, create_app
    from serving.page.corrections import Corrections
    from serving.page.folder import Folder
    from serving.page.safety import Access, is_loopback
    from serving.page.server import listen, make_server

    for option in ("corrections", "index_file"):
        if folder is None and options[option] is not None:
            raise click.UsageError(f"--{option.removesuffix('_file')} is of songs of a folder: autotag page FOLDER")
    token = options["token"]
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(TOKEN_BYTES)
    marks = options["corrections"] or (None if folder is None else folder / CORRECTIONS_NAME)
    access = Access.of(host, token, options["names"])
    quieten_tensorflow()
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(listen(host, port))
        app = create_app(
            Settings(
                models=stack.enter_context(_models(options)),
                access=access,
                folder=None if folder is None else Folder(folder),
                group=_group,
                corrections=None if marks is None else Corrections(marks),
                leaderboards=_leaderboards(options["configs"]),
                index=None if folder is None else options["index_file"] or folder / INDEX_NAME,
            )
        )
        address = _address(host, listener.getsockname()[1], token)
        say(f"{address}  (Ctrl-C ends it)")
        if browser or (browser is None and _desktop()):
            webbrowser.open(address)
        stack.enter_context(decoders_notes_hidden())
        with contextlib.suppress(KeyboardInterrupt):
            make_server(app).run(sockets=[listener])


def _group(tag: str) -> str:
    from datasets.tag_groups import tag_group

    return tag_group(tag)


def _leaderboards(configs: tuple[Path, ...]) -> Leaderboards | None:
    if not configs:
        return None
    from pipeline.reports.leaderboards import MetadataLeaderboards

    return MetadataLeaderboards(configs)


@contextlib.contextmanager
def _models(options: dict[str, Any]) -> Any:
    from pipeline.commands.tag import DEFAULT_MODEL_DIR
    from serving.page.models import Models
    from serving.pretrained.catalogue import CATALOGUE
    from serving.tagging.models import default_model

    given = options["models"] or (default_model(DEFAULT_MODEL_DIR),)
    pushed = [name for name in given if name not in CATALOGUE or Path(name).is_dir()]
    for name in pushed:
        if not Path(name).is_dir():
            raise BadInputError(f"no model at {name}: no such folder, and no trained model of that name")
    first = given[0] if given[0] not in pushed else None
    if not options["server"]:
        yield Models(pushed, default=first)
        return
    from serving.client import TagClient

    server = options["server"]
    with TagClient(
        server,
        transport="rest" if "://" in server else "grpc",
        tls=options["tls"],
        root_certificates=options["root_certificates"],
    ) as client:
        yield Models(pushed, client=client, address=server, default=first)


def _address(host: str, port: int, token: str | None) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


def _desktop() -> bool:
    """Whether somebody sits before a screen where a browser would open."""
    if sys.platform == "darwin":
        return sys.stderr.isatty()
    return sys.stderr.isatty() and bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
