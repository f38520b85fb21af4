"""One call of ``autotag tag``: files are found, tagged by one model or several, shown, drawn and written into.

``plan`` says what is to be done before any model is loaded, so that what cannot be is said at once; ``run`` does it.
What a person is told on the way goes through ``say``, one line a call, so that this needs no terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal, Protocol

from preprocessing.audio.stretches import Stretch
from preprocessing.errors import BadInputError, ClipError
from preprocessing.folders import LeftOut
from preprocessing.level import Level
from preprocessing.names import escaped, lossless
from serving.tagging.audio_files import find_audio, fixed_part, plan_taggrams
from serving.tagging.file_tags import NO_TAGS, FileTags, check_field, read_file_tags
from serving.tagging.output import CsvOutput, Form, JsonOutput, Output, SkippedFile, TableOutput
from serving.tagging.resuming import FileStamp, Resumed, file_stamp
from serving.tagging.sources import TagSource
from serving.tagging.tagged_files import FailedFile, Selection, TaggedFile
from serving.tagging.tagger import Progress, Tagger
from serving.tagging.writing import FileWriter, WriteChoices, Writing

DEFAULT_TOP: Final = 10

Say = Callable[[str], None]
Result = TaggedFile | FailedFile | SkippedFile


@dataclass(frozen=True)
class Choices:
    """What is wanted of the files.

    Attributes:
        selection: which tags are shown and written.
        hop_seconds: from one window's start to the next one's; None for the length of the model's window.
        jobs: files decoded at a time; None for as many as there are cores.
        level: at which the models are given a window.
        stretch: what is heard of each file; None for all.
        form: of the output.
        taggram: where taggrams go, a pattern of serving.tagging.audio_files.plan_taggrams; with several models it has
            ``{model}`` in it. None for none.
        write: how tags are written into the files; None for not at all.
    """

    selection: Selection = Selection(most=DEFAULT_TOP)  # noqa: RUF009 frozen
    hop_seconds: float | None = None
    jobs: int | None = None
    level: Level = "as_is"
    stretch: Stretch | None = None
    form: Form = "table"
    taggram: str | None = None
    write: WriteChoices | None = None


def choose_tags(threshold: float | Literal["model"] | None, most: int | None, write: bool) -> Selection:
    """Return which tags are meant: without a choice those above their threshold where files are written, else ten."""
    if threshold is None and most is None:
        return Selection("model") if write else Selection(most=DEFAULT_TOP)
    return Selection(threshold, most)


@dataclass(frozen=True)
class Plan:
    """What is to be done.

    Attributes:
        files: to be tagged, in this order.
        missing: what was named and is not there.
        pictures: model's name -> file -> where its taggram goes.
        left_out: what was found in folders and is not to be tagged.
        places: where the bytes of a file lie that is not under its name, as those from standard input.
        named: files and folders that a person named; of a pattern the folder before it.
    """

    files: list[Path]
    missing: list[FailedFile]
    pictures: Mapping[str, Mapping[Path, Path]] = field(default_factory=dict)
    left_out: LeftOut = field(default_factory=LeftOut)
    places: Mapping[Path, Path] = field(default_factory=dict)
    named: Sequence[Path] = ()

    @property
    def total(self) -> int:
        """Files that were named, there or not."""
        return len(self.files) + len(self.missing)


def plan(paths: Sequence[str], choices: Choices, models: Sequence[str], listed: Iterable[str] = ()) -> Plan:
    """Find the files and the taggrams' places.

    Args:
        paths: files, folders and patterns.
        choices: what is wanted.
        models: their names.
        listed: files and folders out of a list.

    Raises:
        BadInputError: there is no file, two taggrams would have one place, tags of several models would go into one
            field, a model is named twice, or the field is a player's own.
    """
    if len(set(models)) < len(models):
        raise BadInputError(f"--model names one model twice: {', '.join(models)}")
    if choices.write is not None:
        check_field(choices.write.field)
        if len(models) > 1:
            raise BadInputError("--write takes one --model: tags of several would be mixed up in one field")
    files, missing, left_out = find_audio(paths, listed)
    pictures: dict[str, Mapping[Path, Path]] = {}
    if choices.taggram is not None:
        if len(models) > 1 and "{model}" not in choices.taggram:
            raise BadInputError("with several --model put {model} into --taggram, as in 'taggrams/{model}/{name}.png'")
        for model in models:
            pattern = choices.taggram.replace("{model}", re.sub(r"[^\w.-]+", "-", model).strip("-"))
            pictures[model] = plan_taggrams(pattern, files)
    return Plan(files, missing, pictures, left_out, named=[fixed_part(path) for path in paths])


class Bar(Protocol):
    """Shows how far the files are."""

    def advance(self, path: Path, seconds: float, claimed: float | None) -> None:
        """Say how many seconds of a file are done, of how many that its header claims; from any thread."""
        ...

    def finish(self, path: Path) -> None:
        """Say that nothing more is to be done with a file."""
        ...


@dataclass
class Tally:
    """How many files came to what."""

    failed: int = 0
    written: int = 0
    skipped: int = 0
    incomplete: int = 0
    silent: int = 0
    failures: list[FailedFile] = field(default_factory=list)


def run(
    work: Plan,
    choices: Choices,
    sources: Sequence[TagSource],
    stream: IO[str],
    say: Say,
    bar: Bar | None = None,
    resumed: Resumed | None = None,
) -> Tally:
    """Tag the files with each model, in order, and say on the stream what was heard.

    Args:
        work: from ``plan``.
        choices: what is wanted.
        sources: the models, one at least.
        stream: takes the output.
        say: takes what a person is to know besides, such as which file was left out and why.
        bar: takes the progress.
        resumed: the output that is continued on the stream; files in it are not tagged again.

    Raises:
        AutotagError: a model or server does not answer.
    """
    stamps: dict[Path, FileStamp | None] | None = {} if resumed is not None else None
    outcomes = _Outcomes(work, choices, make_output(choices, sources, stream, stamps, resumed), say)
    if resumed is not None:
        outcomes.count_done(resumed)
        work = dataclasses.replace(work, files=[file for file in work.files if file not in resumed.done])
    for missing in work.missing:
        outcomes.add([missing])
    with contextlib.ExitStack() as stack:
        streams = [
            stack.enter_context(
                contextlib.closing(_results(source, work, choices, _progress(bar, source, sources), stamps))
            )
            for source in sources
        ]
        for results in zip(*streams, strict=True):
            outcomes.add(results)
            if stamps is not None:
                stamps.pop(results[0].path, None)
            if bar is not None:
                bar.finish(results[0].path)
    outcomes.output.end()
    return outcomes.tally


def make_output(
    choices: Choices,
    sources: Sequence[TagSource],
    stream: IO[str],
    stamps: Mapping[Path, FileStamp | None] | None = None,
    resumed: Resumed | None = None,
) -> Output:
    """Return the output of the form that was chosen; ``stamps`` are of the files whose rows are to have one."""

    def stamp(file: TaggedFile) -> dict[str, int | str]:
        assert stamps is not None
        size, modified = stamps[file.path] or (0, 0)
        return {"size": size, "modified": modified, "settings": describe(file.model, choices, file.window_seconds)}

    stamped = None if stamps is None else stamp
    if choices.form == "json":
        return JsonOutput(stream, choices.selection, stamped)
    if choices.form == "table":
        return TableOutput(stream, choices.selection)
    several = list(dict.fromkeys(tag for source in sources for tag in source.tags or ())) if len(sources) > 1 else None
    mapping = choices.write.mapping if choices.write is not None else None
    fields = [name for name in mapping.root if name != choices.write.field] if mapping and choices.write else ()
    return CsvOutput(
        stream,
        choices.selection,
        several,
        choices.stretch is not None,
        stamped,
        resumed.header if resumed else (),
        fields,
    )


def describe(identity: str, choices: Choices, window_seconds: float) -> str:
    """Return what the model's field in a file says: another text means that the tags may be others."""
    selection, chosen = choices.selection, []
    if choices.level != "as_is":
        chosen.append(f"level={choices.level}")
    if choices.stretch is not None:
        chosen.append(f"part={choices.stretch}")
    if selection.threshold is not None:
        chosen.append(f"threshold={'auto' if selection.threshold == 'model' else selection.threshold}")
    if selection.most is not None:
        chosen.append(f"top={selection.most}")
    if choices.write is not None and choices.write.mapping is not None:
        chosen.append(f"fields={choices.write.mapping.identity}")
    return " ".join([identity, f"hop={choices.hop_seconds or window_seconds:g}", *chosen])


def summarise(work: Plan, choices: Choices, tally: Tally) -> Iterator[str]:
    """Yield the lines that are said at the end: what was written and what failed."""
    if choices.write is not None:
        verb = "would be written" if choices.write.dry_run else "written"
        yield f"{tally.written} of {work.total} files {verb}, {tally.skipped} were already done"
    if work.left_out.files:
        yield f"left out of the folders, going by their names: {work.left_out.describe()}"
    if choices.write is None and tally.skipped:
        yield f"{tally.skipped} of {work.total} files were done already"
    if tally.silent:
        yield f"{tally.silent} of {work.total} files are silent and have no tag"
    if tally.failed:
        yield f"{tally.failed} of {work.total} files failed"
    if tally.incomplete:
        yield f"{tally.incomplete} of {work.total} files were not heard whole"


def summary(work: Plan, tally: Tally) -> dict[str, Any]:
    """Return what became of all that was named, as JSON has it: counts, each failure with its reason, what is left out.

    ``left_out`` is as preprocessing.folders.LeftOut has it.
    """
    return {
        "files": work.total,
        "failed": tally.failed,
        "incomplete": tally.incomplete,
        "written": tally.written,
        "already_done": tally.skipped,
        "silent": tally.silent,
        "failures": [
            {"file": lossless(failed.path), "kind": failed.error.kind, "error": failed.reason}
            for failed in tally.failures
        ],
        "left_out": work.left_out.to_json(),
    }


def taggram_folders(work: Plan) -> list[str]:
    """Folders in which taggrams are."""
    return sorted({escaped(place.parent) for places in work.pictures.values() for place in places.values()})


def _progress(bar: Bar | None, source: TagSource, sources: Sequence[TagSource]) -> Progress | None:
    """The last model's decoding is the one that is shown: it is done when the others are, or nearly."""
    return bar.advance if bar is not None and source is sources[-1] else None


def _results(
    source: TagSource,
    work: Plan,
    choices: Choices,
    progress: Progress | None,
    stamps: dict[Path, FileStamp | None] | None,
) -> Generator[Result, None, None]:
    """Yield what became of each file, in their order; files that are done are not tagged again."""
    tagger = Tagger(
        source,
        hop_seconds=choices.hop_seconds,
        jobs=choices.jobs,
        level=choices.level,
        stretch=choices.stretch,
        places=work.places,
    )
    done: dict[Path, FileTags] = {}
    rest = iter(work.files)
    with contextlib.closing(
        tagger.tag_files(_stamped(_to_do(source, work, choices, done), stamps), progress)
    ) as answers:
        for answer in answers:
            for file in rest:
                if file == answer.path:
                    break
                yield SkippedFile(file, done[file])
            yield answer
    for file in rest:
        yield SkippedFile(file, done[file])


def _stamped(files: Iterator[Path], stamps: dict[Path, FileStamp | None] | None) -> Iterator[Path]:
    """Yield the files; size and time of change are taken before any of them is read."""
    for file in files:
        if stamps is not None and file not in stamps:
            stamps[file] = file_stamp(file)
        yield file


def settings_of(sources: Sequence[TagSource], choices: Choices) -> dict[str, str]:
    """Return what is in the rows of each model: its name, which CSV of one model has not, and its settings."""
    named = choices.form == "json" or len(sources) > 1
    return {
        lossless(source.name) if named else "": describe(source.identity(), choices, source.clip.seconds)
        for source in sources
    }


def _to_do(source: TagSource, work: Plan, choices: Choices, done: dict[Path, FileTags]) -> Iterator[Path]:
    """Yield the files that are to be tagged; the others and what they hold go into ``done``."""
    write = choices.write
    if write is None or write.force:
        yield from work.files
        return
    model = describe(source.identity(), choices, source.clip.seconds)
    drawn = work.pictures.get(source.name, {})
    for file in work.files:
        held = _held_tags(file, write.field)
        if held.model == model and file not in drawn:
            done[file] = held
        else:
            yield file


def _held_tags(file: Path, tag_field: str) -> FileTags:
    """What a file holds already; nothing where that cannot be read, which is said when it is to be written."""
    try:
        return read_file_tags(file, tag_field)
    except ClipError:
        return NO_TAGS


class _Outcomes:
    """Takes what became of the files: says it, draws, writes into the files, and counts."""

    def __init__(self, work: Plan, choices: Choices, output: Output, say: Say) -> None:
        self.tally = Tally()
        self.output = output
        self._work, self._choices, self._say = work, choices, say
        self._writer = FileWriter(choices.write, work.named) if choices.write is not None else None

    def count_done(self, resumed: Resumed) -> None:
        """Count files that are in the output already as what became of them."""
        for rows in resumed.done.values():
            self.tally.skipped += 1
            self.tally.incomplete += any(row.incomplete for row in rows)
            self.tally.silent += rows[0].silent

    def add(self, results: Sequence[Result]) -> None:
        """Take one file's results, one of each model; a file that nobody could decode is said once."""
        failed = [result for result in results if isinstance(result, FailedFile)]
        if failed:
            self._report(failed[0], "was left out")
            self.output.failed(failed[0])
        for result in results:
            if isinstance(result, SkippedFile):
                self.tally.skipped += 1
                self.output.skipped(result)
            elif isinstance(result, TaggedFile):
                self._tell_shortfall(result, results)
                self.tally.silent += result.silent and result is results[0]
                self._draw(result)
                self.output.tagged(result, self._write(result))

    def _tell_shortfall(self, file: TaggedFile, results: Sequence[Result]) -> None:
        """Once a file, though several models heard it."""
        if file.shortfall and file is next(result for result in results if isinstance(result, TaggedFile)):
            self.tally.incomplete += 1
            self._say(f"{escaped(file.path)} was not heard whole: {file.shortfall}")

    def _draw(self, file: TaggedFile) -> None:
        place = self._work.pictures.get(file.source, {}).get(file.path)
        if place is not None:
            from serving.tagging.taggram import write_taggram

            write_taggram(place, file, file.model)

    def _write(self, file: TaggedFile) -> Writing | None:
        write = self._choices.write
        if write is None or self._writer is None:
            return None
        model = describe(file.model, self._choices, file.window_seconds)
        writing = self._writer.write(file, file.select(self._choices.selection), model)
        if writing.failed is not None:
            self._report(writing.failed, "would not be written" if write.dry_run else "was not written")
        elif writing.done or (write.dry_run and writing.new.model):
            self.tally.written += 1
        return writing

    def _report(self, file: FailedFile, what: str) -> None:
        self.tally.failed += 1
        self.tally.failures.append(file)
        self._say(f"{escaped(file.path)} {what}: {file.error.kind}: {file.reason}")
