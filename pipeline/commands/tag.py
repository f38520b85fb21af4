"""``autotag tag``: name what is heard in audio files, with a pushed model loaded here or with one behind a server."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from pipeline.audio_files import find_audio, plan_taggrams
from pipeline.server_options import encryption_options
from pipeline.tag_output import CsvOutput, JsonOutput, Output, SkippedFile, TableOutput, Writing, whole_file
from pipeline.terminal import ProgressBar, decoders_notes_hidden, progress_bar
from preprocessing.constants import CLIP_SECONDS
from preprocessing.errors import ClipError
from serving.engines.runtimes import AUTO, AUTO_ORDER, usable_cores
from serving.tagging.file_tags import (
    DEFAULT_FIELD,
    NO_TAGS,
    FileTags,
    check_field,
    check_writable,
    read_file_tags,
    write_file_tags,
)
from serving.tagging.tagger import (
    SHORTEST_HOP_SECONDS,
    FailedFile,
    LocalModel,
    Selection,
    ServedModel,
    TaggedFile,
    Tagger,
    TagSource,
    printable,
)

if TYPE_CHECKING:
    from serving.client import TagClient

DEFAULT_MODEL_DIR: Final = Path("demo-run/pushed")
DEFAULT_TOP: Final = 10


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


@dataclass(frozen=True)
class WriteSettings:
    """How tags are written into files.

    Attributes:
        field: the tags' field.
        model: what the model's field says: model, hop and which tags.
        dry_run: show alone.
        force: write into files that are done, too.
    """

    field: str
    model: str
    dry_run: bool
    force: bool


@click.command("tag", short_help="Name what is heard in audio files.")
@click.argument("paths", nargs=-1, required=True, metavar="FILE|DIR|GLOB...")
@click.option(
    "--model",
    "model_dir",
    type=click.Path(path_type=Path),
    help=f"A pushed model, or the folder of its versions (the newest is taken).  [default: {DEFAULT_MODEL_DIR}]",
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
    "hop_seconds",
    type=click.FloatRange(SHORTEST_HOP_SECONDS, CLIP_SECONDS),
    default=CLIP_SECONDS,
    show_default=True,
    help="Seconds from one window of 29.1 s to the next.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Files decoded, and with --server requests sent, at a time.  [default: cores of this machine]",
)
@click.option("--top", type=click.IntRange(min=1), help="At most so many tags.  [default: 10 where no --threshold is]")
@click.option(
    "--threshold",
    type=Threshold(),
    metavar="auto|FLOAT",
    help="Only tags that reach it; auto is each tag's own, of the model.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a file, one a line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: a row a file, a column a tag.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Write there, all or nothing, not to the screen."
)
@click.option(
    "--taggram",
    metavar="FILE.png|html|json",
    help="Draw tags over time; for several files with {name} (and {folder}) in it.",
)
@click.option("--write", is_flag=True, help="Put the tags into the files: those that reach --threshold (default auto).")
@click.option("--field", default=DEFAULT_FIELD, show_default=True, help="With --write: the field, of several values.")
@click.option("--dry-run", is_flag=True, help="With --write: show what would change in each file and write nothing.")
@click.option("--force", is_flag=True, help="With --write: also files that this model has tagged so already.")
@click.pass_context
def command(
    ctx: click.Context,
    paths: tuple[str, ...],
    model_dir: Path | None,
    engine: str | None,
    server: str | None,
    tls: bool,
    root_certificates: Path | None,
    rest: bool,
    label: str | None,
    hop_seconds: float,
    jobs: int | None,
    top: int | None,
    threshold: float | Literal["model"] | None,
    as_json: bool,
    as_csv: bool,
    out: Path | None,
    taggram: str | None,
    write: bool,
    field: str,
    dry_run: bool,
    force: bool,
) -> None:
    """Name what is heard in audio files, or in all those in folders and below.

    Files of any length: the song's tags are the mean over windows of 29.1 s. MP3, WAV, FLAC, Ogg, Opus, AIFF and AU;
    M4A, AAC and WMA where there is an ffmpeg on PATH. A file that cannot be used is reported and the others go on;
    the exit code is then 1.

    \b
    Examples:
        autotag tag song.mp3
        autotag tag album/ --threshold auto --json --out tags.jsonl
        autotag tag '**/*.flac' --server localhost:8500 --csv > tags.csv
        autotag tag mix.mp3 --hop 5 --taggram mix.html
        autotag tag albums/ --taggram 'taggrams/{folder}/{name}.png'
        autotag tag albums/ --write --dry-run
    """
    check_options(
        (server is None and (rest or label), "--rest and --label go with --server"),
        (server is None and (tls or root_certificates), "--tls and --root-certificates go with --server"),
        (server is not None and (model_dir or engine), "--server takes the place of --model and --engine"),
        (as_json and as_csv, "choose one of --json and --csv"),
        (not write and (dry_run or force), "--dry-run and --force go with --write"),
        (not write and ctx.get_parameter_source("field") == click.core.ParameterSource.COMMANDLINE,
         "--field goes with --write"),
    )  # fmt: skip
    files, missing = find_audio(paths)
    pictures = plan_taggrams(taggram, files) if taggram is not None else {}
    check_field(field)
    if threshold is None and top is None:
        selection = Selection("model") if write else Selection(most=DEFAULT_TOP)
    else:
        selection = Selection(threshold, top)
    jobs = jobs or usable_cores()
    with contextlib.ExitStack() as stack:
        stack.enter_context(decoders_notes_hidden())
        if server is None:
            quieten_tensorflow()
            source: TagSource = LocalModel(model_dir or DEFAULT_MODEL_DIR, engine or AUTO)
        else:
            client = stack.enter_context(open_client(server, rest, label, tls, root_certificates))
            source = ServedModel(client, server if label is None else f"{server} {label}", jobs)
        tagger = Tagger(source, hop_seconds=hop_seconds, jobs=jobs)
        settings = None
        if write:
            settings = WriteSettings(field, describe(source, hop_seconds, selection), dry_run, force)
        stream = stack.enter_context(whole_file(out)) if out is not None else sys.stdout
        output = (JsonOutput if as_json else CsvOutput if as_csv else TableOutput)(stream, selection)
        bar = stack.enter_context(progress_bar(files))
        outcomes = Outcomes(output, selection, settings, pictures, source)
        for failed in missing:
            outcomes.add(failed)
        for result in stack.enter_context(contextlib.closing(tag_all(tagger, files, settings, pictures, bar))):
            outcomes.add(result)
            bar.finish(result.path)
        output.end()
    outcomes.print_summary(len(files) + len(missing), out)
    if outcomes.failed:
        sys.exit(1)


def check_options(*checks: tuple[object, str]) -> None:
    """Refuse options that do not go together.

    Raises:
        click.UsageError: with the words of the first one that holds.
    """
    for refused, words in checks:
        if refused:
            raise click.UsageError(words)


def open_client(server: str, rest: bool, label: str | None, tls: bool, root_certificates: Path | None) -> TagClient:
    """Connect to the server; a URL means REST."""
    from serving.client import TagClient

    transport: Literal["grpc", "rest"] = "rest" if rest or "://" in server else "grpc"
    return TagClient(server, transport=transport, label=label, tls=tls, root_certificates=root_certificates)


def describe(source: TagSource, hop_seconds: float, selection: Selection) -> str:
    """Return what the model's field says: another text means that the tags may be others."""
    chosen = []
    if selection.threshold is not None:
        chosen.append(f"threshold={'auto' if selection.threshold == 'model' else selection.threshold}")
    if selection.most is not None:
        chosen.append(f"top={selection.most}")
    return " ".join([source.identity(), f"hop={hop_seconds:g}", *chosen])


def tag_all(
    tagger: Tagger,
    files: Sequence[Path],
    settings: WriteSettings | None,
    pictures: dict[Path, Path],
    bar: ProgressBar,
) -> Generator[TaggedFile | FailedFile | SkippedFile, None, None]:
    """Yield what became of each file, in their order; files that are done are not tagged again."""
    done: dict[Path, FileTags] = {}

    def to_do() -> Iterator[Path]:
        for file in files:
            held = held_tags(file, settings) if settings is not None else NO_TAGS
            if settings is not None and not settings.force and file not in pictures and held.model == settings.model:
                done[file] = held
            else:
                yield file

    rest = iter(files)
    with contextlib.closing(tagger.tag_files(to_do(), bar.advance)) as answers:
        for answer in answers:
            for file in rest:
                if file == answer.path:
                    break
                yield SkippedFile(file, done[file])
            yield answer
    for file in rest:
        yield SkippedFile(file, done[file])


def held_tags(file: Path, settings: WriteSettings) -> FileTags:
    """What a file holds already; nothing where that cannot be read, which is said when it is to be written."""
    try:
        return read_file_tags(file, settings.field)
    except ClipError:
        return NO_TAGS


class Outcomes:
    """Takes what became of the files: says it, draws, writes into the files, and counts."""

    def __init__(
        self,
        output: Output,
        selection: Selection,
        settings: WriteSettings | None,
        pictures: dict[Path, Path],
        source: TagSource,
    ) -> None:
        self.failed = self.written = self.skipped = 0
        self._output, self._selection, self._settings = output, selection, settings
        self._pictures = pictures
        self._model = source.identity() if pictures else ""

    def add(self, result: TaggedFile | FailedFile | SkippedFile) -> None:
        """Take one file's result."""
        if isinstance(result, FailedFile):
            self._report(result, "was left out")
            self._output.failed(result)
        elif isinstance(result, SkippedFile):
            self.skipped += 1
            self._output.skipped(result)
        else:
            if result.path in self._pictures:
                from serving.tagging.taggram import write_taggram

                write_taggram(self._pictures[result.path], result, self._model)
            self._output.tagged(result, self._write(result) if self._settings is not None else None)

    def print_summary(self, total: int, out: Path | None) -> None:
        """Say on the terminal what was written and what failed."""
        if self._settings is not None:
            verb = "would be written" if self._settings.dry_run else "written"
            click.echo(f"autotag: {self.written} of {total} files {verb}, {self.skipped} were already done", err=True)
        if self._pictures and sys.stderr.isatty():
            click.echo(f"autotag: taggrams in {', '.join(_folders(self._pictures.values()))}", err=True)
        if out is not None and sys.stderr.isatty():
            click.echo(f"autotag: {out}", err=True)
        if self.failed:
            click.echo(f"autotag: {self.failed} of {total} files failed", err=True)

    def _write(self, file: TaggedFile) -> Writing:
        assert self._settings is not None
        new = FileTags(tuple(tag for tag, _ in file.select(self._selection)), self._settings.model)
        old = NO_TAGS
        try:
            old = read_file_tags(file.path, self._settings.field)
            if self._settings.dry_run:
                check_writable(file.path)
            else:
                write_file_tags(file.path, new, self._settings.field)
        except ClipError as error:
            failed = FailedFile(file.path, error)
            self._report(failed, "would not be written" if self._settings.dry_run else "was not written")
            return Writing(old, new, done=False, error=failed.reason)
        self.written += 1
        return Writing(old, new, done=not self._settings.dry_run)

    def _report(self, file: FailedFile, what: str) -> None:
        self.failed += 1
        click.echo(f"autotag: {printable(file.path)} {what}: {file.error.kind}: {file.reason}", err=True)


def _folders(paths: Iterable[Path]) -> list[str]:
    return sorted({printable(path.parent) for path in paths})


def quieten_tensorflow() -> None:
    """Keep TensorFlow's start-up lines off the terminal, unless --verbose was given; before it is imported."""
    if not logging.getLogger().isEnabledFor(logging.INFO):
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
