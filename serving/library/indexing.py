"""One run of ``autotag index``: the files of a folder are heard and put into its index, the changed ones alone.

A file is known by its path, size and time of change; one that was moved, or is there twice, by its content. Rows are
written as they come, so that a killed run is gone on with; memory does not grow with the files but for their names.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from preprocessing.errors import AutotagError, BadInputError
from preprocessing.folders import LeftOut
from preprocessing.locks import hold
from preprocessing.names import escaped, lossless
from serving.library.fingerprints import Fingerprinter
from serving.library.index_file import FailureRow, IndexCard, IndexFile, SongRow, begun, kept_stamp
from serving.library.neighbours import keep_neighbours
from serving.tagging.audio_files import Found, find_audio
from serving.tagging.journal import within
from serving.tagging.resuming import FileStamp
from serving.tagging.session import Bar, Say
from serving.tagging.sources import LocalModel
from serving.tagging.tagged_files import FailedFile, TaggedFile
from serving.tagging.tagger import Tagger
from serving.tagging.windowing import Window

WRITTEN_EVERY_SECONDS: Final = 1.0
"""What a kill can lose."""
ANEW_SUFFIX: Final = ".anew"
"""Behind the name of an index that takes the old one's place when it is whole."""
_READ_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True)
class Choices:
    """How a folder is indexed.

    Attributes:
        jobs: files decoded at a time; None for as many as there are cores.
        retry: also files that failed before and have not changed since.
        anew: nothing of an index that is there is taken over.
    """

    jobs: int | None = None
    retry: bool = False
    anew: bool = False


@dataclass
class Summary:
    """What became of a folder's files.

    Attributes:
        index: where they are.
        model: what people call the model.
        files: in the folder.
        heard: decoded and put into the index.
        moved: taken over from a file of the same content.
        unchanged: in the index as they are.
        vanished: taken out of the index.
        silent: of those in the index.
        incomplete: likewise, not heard whole.
        failures: what could not be used, now or before.
        failed_before: how many of these were not tried again.
        left_out: what is no audio, and folders in which nothing was looked at; what the index has of these stays.
    """

    index: Path
    model: str
    files: int = 0
    heard: int = 0
    moved: int = 0
    unchanged: int = 0
    vanished: int = 0
    silent: int = 0
    incomplete: int = 0
    failures: list[FailureRow] = field(default_factory=list)
    failed_before: int = 0
    left_out: LeftOut = field(default_factory=LeftOut)

    @property
    def indexed(self) -> int:
        """Files in the index."""
        return self.heard + self.moved + self.unchanged

    @property
    def all_well(self) -> bool:
        """Whether every file was heard whole."""
        return not (self.failures or self.incomplete or self.left_out.unreadable)

    def lines(self) -> Iterator[str]:
        """Yield what a person is told at the end."""
        if self.left_out.files:
            yield f"left out of the folder, going by their names: {self.left_out.describe()}"
        for folder, reason in self.left_out.unreadable.items():
            yield f"{folder}: {reason}: nothing in it was looked at, and what the index has of it stays"
        if self.silent:
            yield f"{self.silent} of {self.files} files are silent: they are like no other"
        if self.failures:
            before = f", {self.failed_before} of them earlier (--retry tries again)" if self.failed_before else ""
            yield f"{len(self.failures)} of {self.files} files failed{before}"
        if self.incomplete:
            yield f"{self.incomplete} of {self.files} files were not heard whole"

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` prints it; names as preprocessing.names says."""
        return {
            "index": lossless(self.index),
            "model": lossless(self.model),
            "files": self.files,
            "indexed": self.indexed,
            "heard": self.heard,
            "moved": self.moved,
            "unchanged": self.unchanged,
            "vanished": self.vanished,
            "silent": self.silent,
            "incomplete": self.incomplete,
            "failed": len(self.failures),
            "failures": [{"file": lossless(row.path), "kind": row.kind, "error": row.reason} for row in self.failures],
            "left_out": self.left_out.to_json(),
        }


def card_of(source: LocalModel) -> IndexCard:
    """Return whose answers an index of this model has.

    Args:
        source: loaded with its embeddings.
    """
    info = source.info
    size = source.embedding_size
    thresholds = np.asarray(info.thresholds, np.float32)
    return IndexCard(source.name, source.digest, info.tags, thresholds, info.heads, size)


def index_folder(
    folder: Path, index: Path, source: LocalModel, choices: Choices, say: Say, make_bar: MakeBar
) -> Summary:
    """Bring the index of a folder up to date.

    Args:
        folder: with the files.
        index: the file; begun where it is not there.
        source: loaded with its embeddings.
        choices: how.
        say: takes a line for each file that could not be used.
        make_bar: from the files that are to be heard to what shows how far they are.

    Raises:
        BadInputError: there is no audio in the folder, or the index is of another folder or of another model.
        AutotagError: another process writes to it, or it cannot be written.
    """
    found = find_audio([str(folder)])
    busy = AutotagError(f"another `autotag index` writes to {escaped(index)}: wait for it, or stop it")
    with hold(index, busy):
        part = index.with_name(index.name + ANEW_SUFFIX)
        anew = choices.anew and begun(index)
        with _opened(part if anew else index, folder, source) as file:
            run = _Run(file, index, folder, source, choices, say)
            run.find(found)
            with make_bar(run.to_do) as bar:
                run.hear(bar)
            keep_neighbours(file)
            run.finish()
        if anew:  # not whole_files: a half of it that a killed call left is gone on with
            os.replace(part, index)
    return run.summary


MakeBar = Callable[[Sequence[Path]], contextlib.AbstractContextManager[Bar]]


def _opened(path: Path, folder: Path, source: LocalModel) -> IndexFile:
    """The index that is there, if it is this folder's and this model's, or a new one."""
    if not begun(path):
        return IndexFile.create(path, card_of(source), folder)
    file = IndexFile.open(path, write=True)
    try:
        file.card.check_same(source.digest, source.name, path)
        if os.path.realpath(file.folder) != os.path.realpath(folder):
            raise BadInputError(
                f"{escaped(path)} is the index of {escaped(file.folder)}, not of {escaped(folder)}: name another "
                "file with --index"
            )
    except BaseException:
        file.close()
        raise
    return file


class _Run:
    """Finds what is to be done and does it."""

    def __init__(
        self, file: IndexFile, index: Path, folder: Path, source: LocalModel, choices: Choices, say: Say
    ) -> None:
        self.summary = Summary(index, file.card.model)
        self.to_do: list[Path] = []
        self._gone: list[str] = []
        self._file, self._folder, self._source, self._choices, self._say = file, folder, source, choices, say
        self._stamps: dict[Path, FileStamp] = {}
        self._digests: dict[Path, bytes] = {}
        self._songs: list[SongRow] = []
        self._failures: list[FailureRow] = []
        self._written = time.monotonic()
        self._prints: dict[Path, Fingerprinter] = {}
        self._lock = threading.Lock()

    def find(self, found: Found) -> None:
        """Look at the folder: what is new or changed is to be heard."""
        left_out = found.left_out
        _pass_over(self.summary.index, self._folder, left_out)
        stamps, failed = self._file.stamps(), self._file.failed_stamps()
        there = set()
        for path in found.files:
            name, stamp = self._name(path), kept_stamp(path)
            there.add(name)
            if stamps.get(name) == stamp:
                self.summary.unchanged += 1
            elif failed.get(name) == stamp and not self._choices.retry:
                self.summary.failed_before += 1
            else:
                self.to_do.append(path)
        unreadable = [self._name(Path(folder)) for folder in left_out.unreadable]
        self._gone = [name for name in (*stamps, *failed) if name not in there and not _below(name, unreadable)]
        self.summary.files = len(found.files)
        self.summary.vanished = sum(name in stamps for name in self._gone)
        self.summary.left_out = left_out
        if self.to_do or self._gone:
            self._file.set_complete(False)

    def hear(self, bar: Bar) -> None:
        """Tag the files that are to be heard, and write their rows as they come; then let the vanished ones go."""
        tagger = Tagger(self._source, jobs=self._choices.jobs, on_window=self._take_window)
        try:
            with contextlib.closing(tagger.tag_files(self._unheard(bar), bar.advance)) as answers:
                for answer in answers:
                    self._take(answer)
                    bar.finish(answer.path)
                    if time.monotonic() - self._written > WRITTEN_EVERY_SECONDS:
                        self._write()
        except KeyboardInterrupt:
            self._write()
            raise
        self._write()
        if self._gone:  # at last, for a file that was moved is known by its old row
            self._file.write(vanished=self._gone)

    def finish(self) -> None:
        """Count what is in the index now."""
        self._file.set_complete(True)
        self.summary.silent = self._file.count("silent")
        self.summary.incomplete = self._file.count("shortfall != ''")
        self.summary.failures = self._file.failures()

    def _unheard(self, bar: Bar) -> Iterator[Path]:
        """Yield the files of which nobody has heard the content yet."""
        for path in self.to_do:
            stamp, digest = kept_stamp(path), _digest(path)
            known = self._file.same_content(digest, stamp.size) if digest is not None else None
            if known is not None:
                self._songs.append(dataclasses.replace(known, path=self._name(path), stamp=stamp))
                self.summary.moved += 1
                bar.finish(path)
                continue
            self._stamps[path], self._digests[path] = stamp, digest or b""
            yield path

    def _take_window(self, path: Path, window: Window) -> None:
        """From several threads, those of one file in turn; the last may begin before the one before it ends."""
        rate = self._source.clip.sample_rate
        with self._lock:
            if window.start == 0:
                self._prints[path] = Fingerprinter(rate)
            printer = self._prints[path]
        printer.add(window.samples[printer.taken - window.start : window.length])

    def _take(self, answer: TaggedFile | FailedFile) -> None:
        name, stamp = self._name(answer.path), self._stamps.pop(answer.path)
        digest = self._digests.pop(answer.path)
        with self._lock:
            printer = self._prints.pop(answer.path, None)
        if isinstance(answer, FailedFile):
            self._failures.append(FailureRow(name, stamp, answer.error.kind, answer.reason))
            self._say(f"{escaped(answer.path)} was left out: {answer.error.kind}: {answer.reason}")
            return
        assert answer.embedding is not None
        assert printer is not None
        self.summary.heard += 1
        if answer.shortfall:
            self._say(f"{escaped(answer.path)} was not heard whole: {answer.shortfall}")
        self._songs.append(
            SongRow(
                path=name,
                stamp=stamp,
                digest=digest,
                seconds=answer.seconds,
                silent=answer.silent,
                shortfall=answer.shortfall,
                embedding=answer.embedding,
                probabilities=answer.probabilities,
                above=answer.above,
                fingerprint=printer.finish(),
            )
        )

    def _write(self) -> None:
        if self._songs or self._failures:
            self._file.write(self._songs, self._failures)
            self._songs, self._failures = [], []
        self._written = time.monotonic()

    def _name(self, path: Path) -> str:
        return os.path.relpath(path, self._folder)


def _digest(path: Path) -> bytes | None:
    """BLAKE2b of the content, 16 bytes; None where it cannot be read, which is said when it is decoded."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while piece := file.read(_READ_AT_ONCE):
                digest.update(piece)
    except OSError:
        return None
    return digest.digest()


def _below(name: str, folders: Sequence[str]) -> bool:
    return any(folder == os.curdir or within(name, folder) for folder in folders)


def _pass_over(index: Path, folder: Path, left_out: LeftOut) -> None:
    """Do not count the index itself, and what SQLite has beside it, among what is no audio."""
    inside = Path(os.path.realpath(index)).parent
    if not inside.is_relative_to(os.path.realpath(folder)):
        return
    for name in (index.name, f"{index.name}{ANEW_SUFFIX}"):
        for suffix in ("", "-journal"):
            if (inside / (name + suffix)).exists():
                left_out.by_suffix[Path(name + suffix).suffix.lower()] -= 1
    left_out.by_suffix += Counter()  # without zeros
