"""The command line, ``autotag``: one group whose subcommands are imported when they are called.

Importing TFX or TensorFlow takes many seconds; a command waits only for what it needs itself. Exit codes: 0 done,
1 failed, 2 wrong usage or bad input that stops all.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from typing import Final

import click
from click.shell_completion import CompletionItem

from pipeline.console.terminal import begin_in_utf8, leave_output, own_streams, say, say_error
from preprocessing.errors import AutotagError, BadInputError

COMMANDS: Final = {
    "doctor": ("doctor", "Say what works here, and what is missing for which job."),
    "make-corpus": ("make_corpus", "Write a synthetic corpus in MagnaTagATune's layout."),
    "dataset": ("dataset", "List data sets, or show one: card, counts, splits, what is missing."),
    "download": ("download", "Download a data set from its publisher, resumable."),
    "preprocess": ("preprocess", "Turn audio and annotations into TFRecords."),
    "run": ("run", "Run the pipeline: data, training, evaluation, push."),
    "compare": ("compare", "Train and compare networks under one setting."),
    "networks": ("networks", "List the networks that a configuration can name."),
    "runs": ("runs", "List runs, their scores, what was blessed and pushed."),
    "kubeflow": ("kubeflow", "Run the pipeline on Kubeflow Pipelines, once or on a schedule."),
    "tag-map": ("tag_map", "Draw tags as a map: what a network, people or texts take for alike."),
    "report": ("report", "Write a run's results as one HTML page."),
    "gc": ("gc", "Delete what old runs left and nothing needs any more."),
    "tag": ("tag", "Name what is heard in audio files."),
    "page": ("page", "Open a page to listen, look, compare and find."),
    "index": ("index", "Hear a folder's files once, to find songs by sound and tags."),
    "similar": ("similar", "Find songs that sound like a file, or like one second of it."),
    "search": ("search", "Find songs by tags: piano, not vocal."),
    "pretrained": ("pretrained", "List trained models of others, or fetch some."),
    "import": ("import_weights", "Make a pushed version of trained weights."),
    "export": ("export", "Write the pushed model for phones (LiteRT) or as ONNX."),
    "serve": ("serve", "Start TensorFlow Serving on the pushed models."),
    "guard": ("guard", "Keep requests that claim too much off a server's gRPC port."),
    "promote": ("promote", "Let a label of the server point at another version."),
    "rollback": ("rollback", "Let a label point at the version before."),
    "completion": ("completion", "Print what lets bash, zsh or fish complete."),
}

RENAMED: Final = {"download-mtat": "download mtat"}
"""Name of earlier versions -> what to call now."""

EXTRAS: Final = {
    "apache_beam": "preprocessing",
    "pydantic": "tfx",
    "tfx": "tfx",
    "kfp": "kubeflow",
    "grpc": "serving",
    "matplotlib": "tag",
    "sklearn": "page",
    "usearch": "page",
    "h5py": "tfx",
    "keras": "tfx",
    "tensorflow": "tfx",
    "starlette": "page",
    "uvicorn": "page",
}
"""Package that a command imports -> extra that brings it."""


class LazyGroup(click.Group):
    """A group that imports a subcommand's module when that subcommand is asked for, and not for the list of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the subcommands' names in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the subcommand, or None where there is none of that name.

        Raises:
            click.UsageError: it has another name now.
        """
        if cmd_name in RENAMED and not ctx.resilient_parsing:
            raise click.UsageError(f"{cmd_name} is now called: autotag {RENAMED[cmd_name]}", ctx)
        if cmd_name not in COMMANDS:
            return None
        try:
            module = importlib.import_module(f"pipeline.commands.{COMMANDS[cmd_name][0]}")
        except ImportError:
            if ctx.resilient_parsing:  # a shell that completes must not be told what is not installed
                return None
            raise
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete subcommands from the table, without importing any."""
        names = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return [*names, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands from the table, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="autotag")
@click.option("-v", "--verbose", is_flag=True, help="Show the libraries' own log lines too.")
def group(verbose: bool) -> None:
    """Music auto-tagging: from folders of clips to a served model that names what is heard.

    \b
    Example:
        autotag make-corpus demo-data --clips 200
        autotag run --set data.audio_dir=demo-data --set data.annotations=demo-data/annotations_final.csv
        autotag tag song.mp3
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )


def main() -> None:
    """Run the command line and turn errors into one clear line and an exit code."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read by TensorFlow when a command imports it
    begin_in_utf8()
    own_streams()
    sys.exit(leave_output(_run()))


def _run() -> int:
    """Run the command; returns its exit code."""
    try:
        code = group(standalone_mode=False)  # click returns what a command exits with
        return code if isinstance(code, int) else 0
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BadInputError as error:
        say_error(error)
        return 2
    except AutotagError as error:
        say_error(error)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in EXTRAS:
            raise
        say(f"{package} is not installed: pip install 'autotag[{EXTRAS[package]}]'")
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:  # of `autotag tag ... | head`
        pass
    except OSError as error:  # a full disk, a folder that may not be written
        logging.getLogger(__name__).info("where it happened:", exc_info=error)  # with --verbose
        say_error(error)
    except (click.Abort, KeyboardInterrupt):
        say("stopped; what lies under its final name is whole, and the next call goes on from there")
    return 1
