"""Trains what a comparison still lacks, one network after the other, within a budget of time.

What is done is asked of ML Metadata: an entry whose data, settings and code are those of an evaluation that is there
needs no training. A killed comparison, or one whose time was up, goes on where it was: finished entries stay, and the
training that was under way goes on at its last epoch.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pipeline.compare.config import ComparisonConfig, Entry
from preprocessing.child_processes import end_with_parent
from preprocessing.errors import BadInputError

GRACE_SECONDS: Final = 20
"""That a training has to end after it was asked to."""


@dataclass(frozen=True)
class Failure:
    """An entry that could not be trained: the last line of its log, and where the log is."""

    entry: Entry
    reason: str
    log: Path


@dataclass
class Progress:
    """How far a comparison is.

    Attributes:
        done: entries with an evaluation.
        failed: those that could not be trained.
        left: those that were not begun, or not finished, when the time was up.
        minutes: of each training of this call.
    """

    done: list[Entry] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    left: list[Entry] = field(default_factory=list)
    minutes: dict[Entry, float] = field(default_factory=dict)

    def estimate(self, entry: Entry) -> float | None:
        """Minutes that an entry will take: as others of its network took, else as all others did; None before any."""
        alike = [taken for other, taken in self.minutes.items() if other.network == entry.network]
        known = alike or list(self.minutes.values())
        return statistics.mean(known) if known else None


def train_missing(
    config: ComparisonConfig,
    config_file: Path,
    trained: Callable[[], Collection[Entry]],
    minutes: float | None,
    say: Callable[[str], None],
) -> Progress:
    """Train every entry that is not there.

    Args:
        config: the comparison.
        config_file: the file that it was read from.
        trained: asks ML Metadata which entries have an evaluation.
        minutes: after which nothing goes on; None for no limit.
        say: takes lines for people.

    Raises:
        BadInputError: nothing can be written below the root.
    """
    progress, began = Progress(), time.monotonic()
    entries = list(config.entries())
    there = trained()
    progress.done = [entry for entry in entries if entry in there]
    missing = [entry for entry in entries if entry not in there]
    say(f"{len(entries)} trainings: {len(progress.done)} are there, {len(missing)} to do")
    if minutes == 0:
        progress.left = missing
        return progress
    logs = _log_folder(config)
    for number, entry in enumerate(missing, start=1):
        left = None if minutes is None else minutes - (time.monotonic() - began) / 60
        estimate = progress.estimate(entry)
        if left is not None and (left <= 0 or (estimate is not None and estimate > left)):
            progress.left += missing[number - 1 :]
            say(f"the time is up: {len(progress.left)} trainings are left for the next call")
            break
        lacking = [network for network in config.made_of(entry) if network not in progress.done]
        if lacking:
            reason = f"there is no {lacking[0].title}"
            progress.failed.append(Failure(entry, reason, _log_file(logs, lacking[0])))
            say(f"{entry.title}: failed: {reason}")
            continue
        say(f"[{number}/{len(missing)}] {entry.title} ...{_left(progress, missing[number - 1 :])}")
        if not _train_one(config_file, entry, _log_file(logs, entry), left, trained, progress, say):
            progress.left += missing[number - 1 :]
            break
    return progress


def _train_one(
    config_file: Path,
    entry: Entry,
    log: Path,
    left: float | None,
    trained: Callable[[], Collection[Entry]],
    progress: Progress,
    say: Callable[[str], None],
) -> bool:
    """Train one entry and note in ``progress`` what came of it; return whether there is time left."""
    started = time.monotonic()
    ended = _train(config_file, entry, log, left)
    if ended is None:
        say(f"the time is up in {entry.title}, which goes on at its last epoch with the next call")
        return False
    if ended == 0 and entry in trained():
        progress.done.append(entry)
        progress.minutes[entry] = (time.monotonic() - started) / 60
    else:
        progress.failed.append(Failure(entry, _last_line(log), log))
        say(f"{entry.title}: failed: {_last_line(log)} (log: {log})")
    return True


def _log_folder(config: ComparisonConfig) -> Path:
    folder = Path(config.root) / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInputError(f"{folder} cannot be made: {error.strerror}") from None
    return folder


def _log_file(logs: Path, entry: Entry) -> Path:
    return logs / f"{entry.data}__{entry.name}.log"


def _left(progress: Progress, entries: Sequence[Entry]) -> str:
    estimates = [progress.estimate(entry) for entry in entries]
    known = [minutes for minutes in estimates if minutes is not None]
    return f" about {round(sum(known))} min left" if known else ""


def _train(config_file: Path, entry: Entry, log: Path, minutes: float | None) -> int | None:
    """Run one training; returns its exit status, None where the time was up."""
    call = [sys.executable, "-m", "pipeline.compare.train", str(config_file), entry.data, entry.name]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TF_CPP_MIN_LOG_LEVEL": "2"}
    with log.open("ab") as file:
        process = subprocess.Popen(
            call, stdout=file, stderr=file, stdin=subprocess.DEVNULL, env=environment, preexec_fn=end_with_parent
        )
        try:
            return process.wait(None if minutes is None else 60 * minutes)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a training that is still going on, whatever ended the waiting for it."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].removeprefix("autotag: ") if lines else "it ended without a word"
