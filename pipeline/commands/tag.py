"""``autotag tag``: name what is heard in audio files, with models loaded here or with one behind a server."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import click

from pipeline.console import completion
from pipeline.console.server_options import encryption_options
from pipeline.console.terminal import check_output, decoders_notes_hidden, progress_bar, quieten_tensorflow, say
from preprocessing.audio.stretches import Stretch, parse_stretch
from preprocessing.errors import BadInputError
from preprocessing.names import to_json
from serving.engines.runtimes import AUTO, AUTO_ORDER, usable_cores
from serving.pretrained.catalogue import DEFAULT
from serving.tagging import session
from serving.tagging.file_tags import DEFAULT_FIELD
from serving.tagging.inputs import STDIN, STDIN_ARGUMENT, open_list, read_list, spooled
from serving.tagging.models import default_model, model_folder
from serving.tagging.output import Form, whole_file
from serving.tagging.resuming import Resumed, resumed
from serving.tagging.sources import LocalModel, ServedModel, TagSource
from serving.tagging.undo_output import take_back_all
from serving.tagging.windowing import SHORTEST_HOP_SECONDS
from serving.tagging.writing import WriteChoices

UNDO_PARAMETERS: Final = frozenset(
    {"paths", "list_file", "null", "undo", "all_runs", "dry_run", "as_json", "as_csv", "out"}
)
DEFAULT_MODEL_DIR: Final = Path("demo-run/pushed")


class Threshold(click.ParamType):
    """``auto`` or a probability."""

    name = "auto|FLOAT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | Literal["model"] | None:
        """Return "model" for auto, else the number."""
        if value == "auto":
            return "model"
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            self.fail(f"{value!r} is neither auto nor a number from 0 to 1", param, ctx)
        return number


class Part(click.ParamType):
    """Such as ``middle:60``."""

    name = "WHERE:SECONDS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Stretch:
        """Return what is to be heard of each file."""
        try:
            return parse_stretch(value)
        except BadInputError as error:
            self.fail(str(error), param, ctx)


@click.command("tag", short_help="Name what is heard in audio files.")
@click.argument("paths", nargs=-1, metavar="FILE|DIR|GLOB|-...", shell_complete=completion.files)
@click.option(
    "--files-from",
    "list_file",
    metavar="LIST",
    shell_complete=completion.files,
    help="Also the files in this list, one a line; - is stdin.",
)
@click.option("-0", "--null", is_flag=True, help="Names in LIST end with NUL, as `find -print0` has them.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME|DIR",
    shell_complete=completion.models,
    help="A trained model that `autotag pretrained` lists, a pushed one, or the folder of its versions (the newest is "
    f"taken); several give several sets of tags.  [default: {DEFAULT_MODEL_DIR} if that is there, else {DEFAULT}]",
)
@click.option(
    "--engine", type=click.Choice([AUTO, *AUTO_ORDER]), help="What computes the local model.  [default: auto]"
)
@click.option("--server", metavar="HOST:PORT|URL", help="Ask TF Serving in place of a local model; a URL means REST.")
@encryption_options
@click.option("--rest", is_flag=True, help="Ask the server over REST, not gRPC.")
@click.option("--label", help="Ask for the server's version with this label, as stable or canary.")
@click.option(
    "--hop",
    type=click.FloatRange(min=SHORTEST_HOP_SECONDS),
    help="Seconds from one window to the next.  [default: the window's length, 29.1 s of most models]",
)
@click.option(
    "--part",
    "stretch",
    type=Part(),
    help="Hear only so many seconds of each file, as start:30, middle:60, end:60 or, from 1:30 on, 1:30:60.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Files decoded, and with --server requests sent, at a time.  [default: cores of this machine]",
)
@click.option(
    "--level",
    type=click.Choice(["as-is", "rms"]),
    default="as-is",
    show_default=True,
    help="rms: bring each window to -18 dBFS first, for quiet files and models that were not trained so.",
)
@click.option("--top", type=click.IntRange(min=1), help="At most so many tags.  [default: 10 where no --threshold is]")
@click.option(
    "--threshold",
    type=Threshold(),
    metavar="auto|FLOAT",
    help="Only tags that reach it; auto is each tag's own, of the model.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file and model, one a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a row a file and model, a column a tag.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write there, all or nothing, not to the screen."
)
@click.option(
    "--resume",
    is_flag=True,
    help="With --out and --json or --csv: rows are kept as files are done, and the same call goes on behind them.",
)
@click.option(
    "--taggram",
    metavar="FILE.png|html|json",
    help="Draw tags over time; for several files with {name} (and {folder}) in it, for several models with {model}.",
)
@click.option("--write", is_flag=True, help="Put the tags into the files: those that reach --threshold (default auto).")
@click.option("--field", default=DEFAULT_FIELD, show_default=True, help="With --write: the field, of several values.")
@click.option(
    "--fields",
    metavar="default|FILE",
    help="With --write: also into fields that players read (genre, mood, grouping, comment, own ones), by a mapping "
    "in YAML; default is one for the trained models.",
)
@click.option(
    "--dry-run",
    "--preview",
    "dry_run",
    is_flag=True,
    help="With --write or --undo: show what would change in each file and write nothing.",
)
@click.option("--force", is_flag=True, help="With --write: also files that this model has tagged so already.")
@click.option(
    "--undo", is_flag=True, help="Take back what the newest --write has put into these files, by the library's journal."
)
@click.option("--all-runs", is_flag=True, help="With --undo: what every --write has put there.")
@click.option(
    "--summary",
    "summary_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write as JSON there how many files there were, which failed and why, and what was left out.",
)
@click.pass_context
def command(
    ctx: click.Context, /, paths: tuple[str, ...], out: Path | None, summary_file: Path | None, **options: Any
) -> None:
    """Name what is heard in audio files, or in all those in folders and below.

    Files of any length: the song's tags are the mean over windows of 29.1 s, or of what the model takes. MP3, WAV,
    FLAC, Ogg, Opus, AIFF, AU, CAF and W64; M4A, AAC, WMA, WavPack, Monkey's Audio, Musepack, DSD, Matroska and WebM
    where there is an ffmpeg on PATH. What a file is, its content says; - is audio from standard input. A file that
    cannot be used or is not heard whole, or a folder that cannot be read, is reported and the others go on; the exit
    code is then 1. Linked folders are followed; what is left out of folders for its name is counted by suffix at the
    end, with exit code 0.

    \b
    Examples:
        autotag tag song.mp3
        autotag tag song.mp3 --model musicnn-mtt --model my-run/pushed
        autotag tag album/ --threshold auto --json --out tags.jsonl
        autotag tag '**/*.flac' --server localhost:8500 --csv > tags.csv
        autotag tag mix.mp3 --hop 5 --taggram mix.html
        autotag tag albums/ --taggram 'taggrams/{folder}/{name}.png'
        autotag tag albums/ --write --fields default --preview
        autotag tag albums/ --write --fields mine.yaml
        autotag tag albums/ --undo
        ffmpeg -i film.mkv -f wav - | autotag tag -
        find music -name '*.mp3' -print0 | autotag tag -0 --files-from - --part middle:60 --json
    """
    check_options(ctx, options)
    check_inputs(paths, options)
    if options["resume"]:
        check_resume(paths, out, options)
    if out is None:
        check_output()
    if options["undo"]:
        undo(paths, out, options)
        return
    choices = choices_of(options)
    with contextlib.ExitStack() as stack:
        work = session.plan(paths, choices, model_names(options), stack.enter_context(listed_files(options)))
        if STDIN in work.files:
            audio = stack.enter_context(spooled(sys.stdin.buffer))
            work = dataclasses.replace(work, places={STDIN: audio})
        stack.enter_context(decoders_notes_hidden())
        sources = stack.enter_context(open_sources(options))
        earlier = stack.enter_context(continued(out, work, choices, sources)) if options["resume"] else None
        if earlier is not None:
            stream = earlier.stream
        else:
            stream = stack.enter_context(whole_file(out)) if out is not None else sys.stdout
        bar = stack.enter_context(progress_bar(work.files))
        tally = session.run(work, choices, sources, stream, say, bar, earlier)
    for line in session.summarise(work, choices, tally):
        say(line)
    if summary_file is not None:
        with whole_file(summary_file, "--summary") as stream:
            stream.write(to_json(session.summary(work, tally), indent=1) + "\n")
    if sys.stderr.isatty():
        if work.pictures:
            say(f"taggrams in {', '.join(session.taggram_folders(work))}")
        if out is not None:
            say(str(out))
    if tally.failed or tally.incomplete:
        sys.exit(1)


def refuse_first(*conditions: tuple[object, str]) -> None:
    """Refuse a call by the words of the first condition that holds.

    Raises:
        click.UsageError: one does.
    """
    for refused, words in conditions:
        if refused:
            raise click.UsageError(words)


def check_options(ctx: click.Context, options: dict[str, Any]) -> None:
    """Refuse options that do not go together.

    Raises:
        click.UsageError: some do not.
    """
    server, write = options["server"], options["write"]
    if options["undo"]:
        check_undo(ctx)
    field_given = ctx.get_parameter_source("field") == click.core.ParameterSource.COMMANDLINE
    refuse_first(
        (not server and (options["rest"] or options["label"]), "--rest and --label go with --server"),
        (
            not server and (options["tls"] or options["root_certificates"]),
            "--tls and --root-certificates go with --server",
        ),
        (server and (options["models"] or options["engine"]), "--server takes the place of --model and --engine"),
        (options["as_json"] and options["as_csv"], "choose one of --json and --csv"),
        (not write and options["dry_run"] and not options["undo"], "--dry-run and --preview go with --write or --undo"),
        (not write and options["force"], "--force goes with --write"),
        (not write and field_given, "--field goes with --write"),
        (not write and options["fields"], "--fields goes with --write"),
        (options["all_runs"] and not options["undo"], "--all-runs goes with --undo"),
    )


def check_resume(paths: tuple[str, ...], out: Path | None, options: dict[str, Any]) -> None:
    """Refuse what cannot be continued.

    Raises:
        click.UsageError: so it is.
    """
    refuse_first(
        (out is None or not (options["as_json"] or options["as_csv"]), "--resume goes with --out and --json or --csv"),
        (options["write"], "--write passes over files that are done by itself, without --resume"),
        (STDIN_ARGUMENT in paths, "standard input (-) cannot be resumed: nobody knows whether it is what it was"),
    )


def continued(
    out: Path | None, work: session.Plan, choices: session.Choices, sources: list[TagSource]
) -> contextlib.AbstractContextManager[Resumed]:
    """The output that this call goes on with."""
    assert out is not None
    assert choices.form != "table"
    missing = [failed.path for failed in work.missing]
    return resumed(out, choices.form, work.files, missing, session.settings_of(sources, choices))


def check_inputs(paths: tuple[str, ...], options: dict[str, Any]) -> None:
    """Refuse names of files that do not go together, or none.

    Raises:
        click.UsageError: so it is.
    """
    list_file, stdin = options["list_file"], STDIN_ARGUMENT in paths
    refuse_first(
        (not paths and list_file is None, "Missing argument 'FILE|DIR|GLOB|-...', or --files-from LIST"),
        (options["null"] and list_file is None, "-0 (--null) goes with --files-from"),
        (stdin and list_file == STDIN_ARGUMENT, "standard input is the audio (-) or the list (--files-from -)"),
        (stdin and options["write"], "--write writes into files, and standard input (-) is none"),
        (stdin and options["undo"], "--undo is for files, and standard input (-) is none"),
    )


@contextlib.contextmanager
def listed_files(options: dict[str, Any]) -> Iterator[Iterator[str]]:
    """The names in the list that was given; none where there is none."""
    list_file = options["list_file"]
    if list_file is None:
        yield iter(())
        return
    name = "the list on standard input" if list_file == STDIN_ARGUMENT else list_file
    with open_list(list_file, sys.stdin.buffer) as stream:
        yield read_list(stream, options["null"], name)


def check_undo(ctx: click.Context) -> None:
    """Refuse what does not go with --undo.

    Raises:
        click.UsageError: something does not.
    """
    for parameter in ctx.command.params:
        given = ctx.get_parameter_source(parameter.name or "") == click.core.ParameterSource.COMMANDLINE
        if given and parameter.name not in UNDO_PARAMETERS:
            raise click.UsageError(f"{parameter.opts[0]} does not go with --undo, which takes back what was written")


def undo(paths: tuple[str, ...], out: Path | None, options: dict[str, Any]) -> None:
    """Take back what was written, and say so."""
    with contextlib.ExitStack() as stack:
        listed = stack.enter_context(listed_files(options))
        stream = stack.enter_context(whole_file(out)) if out is not None else sys.stdout
        complete = take_back_all(paths, listed, options["all_runs"], options["dry_run"], form_of(options), stream, say)
    if not complete:
        sys.exit(1)


def form_of(options: dict[str, Any]) -> Form:
    """Return the form of the output."""
    return "json" if options["as_json"] else "csv" if options["as_csv"] else "table"


def choices_of(options: dict[str, Any]) -> session.Choices:
    """Return what is wanted of the files."""
    write = options["write"]
    return session.Choices(
        selection=session.choose_tags(options["threshold"], options["top"], write),
        hop_seconds=options["hop"],
        jobs=options["jobs"],
        stretch=options["stretch"],
        level="rms" if options["level"] == "rms" else "as_is",
        form=form_of(options),
        taggram=options["taggram"],
        write=write_choices(options) if write else None,
    )


def write_choices(options: dict[str, Any]) -> WriteChoices:
    """Return how tags are to be written into files.

    Raises:
        BadInputError: the mapping cannot be read.
    """
    mapping = None
    if options["fields"]:
        from serving.tagging.mapping import load_mapping

        mapping = load_mapping(options["fields"])
    return WriteChoices(options["field"], options["dry_run"], options["force"], mapping, options["fields"] or "")


def model_names(options: dict[str, Any]) -> list[str]:
    """Return what the models are called that will answer."""
    if options["server"]:
        return [options["server"]]
    return list(options["models"]) or [default_model(DEFAULT_MODEL_DIR)]


@contextlib.contextmanager
def open_sources(options: dict[str, Any]) -> Iterator[list[TagSource]]:
    """Load the models, or connect to the server (a URL means REST)."""
    names = model_names(options)
    if not options["server"]:
        quieten_tensorflow()
        engine = options["engine"] or AUTO
        yield [LocalModel(model_folder(name, say), engine, name=name) for name in names]
        return
    from serving.client import TagClient

    server = options["server"]
    with TagClient(
        server,
        transport="rest" if options["rest"] or "://" in server else "grpc",
        label=options["label"],
        tls=options["tls"],
        root_certificates=options["root_certificates"],
    ) as client:
        yield [ServedModel(client, names[0], options["jobs"] or usable_cores())]
