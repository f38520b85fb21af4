"""The log of long commands: for people as it was, and as one JSON object a line for what collects logs.

A line says which run and node it belongs to. Nodes run one after the other in one process, so what is current is kept
once for the process; a context variable would be lost in Beam's worker threads, which do not inherit it.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pipeline.runs.full_disk import names_full_disk
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.names import to_json

if TYPE_CHECKING:
    from rich.console import Console

log = logging.getLogger(__name__)

OURS: Final = ("components.", "datasets.", "pipeline.", "preprocessing.")
COUNTS: Final = ("clips", "clips_done", "shards", "examples", "rejected", "seconds", "state")
"""What a line may carry besides the text, by logging's ``extra``."""

_GLOG: Final = re.compile(r"([IWEF])\d{4} \d\d:\d\d:\d\d")
_GLOG_LEVELS: Final = {"I": logging.INFO, "W": logging.WARNING, "E": logging.ERROR, "F": logging.CRITICAL}
_PIPE_BYTES: Final = 1 << 20

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass
class _Current:
    run: str | None = None
    node: str | None = None
    failed_run: str | None = None
    failed_node: str | None = None

    def failed(self) -> dict[str, str | None]:
        """What an error that has left the blocks of run and node belongs to."""
        return {"run": self.failed_run, "node": self.failed_node}


_current = _Current()


@contextlib.contextmanager
def of_run(run: str | None) -> Iterator[None]:
    """Say that lines belong to a run while the block runs."""
    _current.run = run
    try:
        yield
    except BaseException:
        _current.failed_run = run
        raise
    finally:
        _current.run = None


@contextlib.contextmanager
def of_node(node: str) -> Iterator[None]:
    """Say that lines belong to a node while the block runs."""
    _current.node = node
    try:
        yield
    except BaseException:
        _current.failed_node = node
        raise
    finally:
        _current.node = None


def log_format_option(command: Command) -> Command:
    """Add ``--log-format``."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        envvar="AUTOTAG_LOG",
        show_envvar=True,
        help="Of the log on the error stream: for people, or one JSON object a line.",
    )(command)


class RunFilter(logging.Filter):
    """Lets through what one follows a run by: nodes beginning and ending, epochs, scores; and real errors.

    Of a library's error that a disk is full the last line alone: the node says the rest when it ends.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is one of those."""
        text = record.getMessage()
        if not record.name.startswith(OURS) and names_full_disk(text):
            record.msg, record.args, record.exc_info = text.rstrip().splitlines()[-1], None, None
        return record.name.startswith(OURS) or record.levelno >= logging.ERROR


def show_progress(console: Console) -> None:
    """Let what one follows a run by go to a terminal, a line each with its time."""
    from rich.logging import RichHandler

    handler = RichHandler(console=console, show_path=False, show_level=False, markup=False, log_time_format="%H:%M:%S")
    handler.addFilter(RunFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, run, node, message; counts and a traceback where there are."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as one line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        values: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "run": getattr(record, "run", _current.run),
            "node": getattr(record, "node", _current.node),
            "message": record.getMessage(),
        }
        values |= {name: getattr(record, name) for name in COUNTS if hasattr(record, name)}
        if record.exc_info:
            values["error"] = self.formatException(record.exc_info)
        return to_json(values, default=str)


@contextlib.contextmanager
def json_log(verbose: bool = False) -> Iterator[None]:
    """Write the log as JSON to the error stream while the block runs, and an error that ends it too.

    What libraries in C++ write to the error stream comes as such lines as well, so that every line is JSON; their
    notes below a warning are left out unless ``verbose``.

    Raises:
        click.exceptions.Exit: the block ended with an error, which has been logged; with the exit code.
    """
    root = logging.getLogger()
    before, level = root.handlers, root.level
    _current.failed_run = _current.failed_node = None
    with open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1) as stream:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter())
        if not verbose:
            handler.addFilter(RunFilter())
        root.handlers = [handler]
        root.setLevel(logging.INFO)
        try:
            with _libraries_lines():
                yield
        except BadInputError as error:
            log.error("%s", error, extra=_current.failed())
            raise click.exceptions.Exit(2) from None
        except AutotagError as error:
            log.error("%s", error, extra=_current.failed())
            raise click.exceptions.Exit(1) from None
        except (click.exceptions.Exit, click.ClickException):
            raise
        except (click.Abort, KeyboardInterrupt):
            text = "stopped; what lies under its final name is whole, and the next call goes on from there"
            log.error(text, extra=_current.failed())
            raise click.exceptions.Exit(1) from None
        except Exception as error:
            log.exception("%s: %s", type(error).__name__, error, extra=_current.failed())
            raise click.exceptions.Exit(1) from None
        finally:
            root.handlers = before
            root.setLevel(level)


@contextlib.contextmanager
def _libraries_lines() -> Iterator[None]:
    """Turn what is written to file descriptor 2 while the block runs, by child processes too, into records."""
    own = os.dup(2)
    read, write = os.pipe()
    # The reader needs the interpreter's lock, which a library may hold while it writes.
    fcntl.fcntl(write, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)
    sys.stderr.flush()
    os.dup2(write, 2)
    os.close(write)
    thread = threading.Thread(target=_log_lines, args=(read,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(own, 2)
        os.close(own)
        thread.join(timeout=2)  # a worker process that outlives the block may hold the other end


def _log_lines(descriptor: int) -> None:
    libraries = logging.getLogger("pipeline.libraries")
    with open(descriptor, encoding="utf-8", errors="backslashreplace") as file:
        for line in file:
            found = _GLOG.match(line)
            level = _GLOG_LEVELS[found[1]] if found else logging.WARNING
            if line.strip() and (level > logging.INFO or not found):
                libraries.log(level, "%s", line.rstrip())
