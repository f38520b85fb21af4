"""Work in a process of its own: what imports much, or must be ended when nobody waits for it any more."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final, TypeVar

from preprocessing.child_processes import end_with_parent
from preprocessing.errors import AutotagError, BadInputError
from serving.page.work import Check

LOOK_SECONDS: Final = 0.5
"""How often is looked whether somebody still waits."""
ENDING_SECONDS: Final = 5.0

Say = Callable[[str], None]
Result = TypeVar("Result")


def run_apart(work: Callable[..., Result], *arguments: Any, say: Say, check: Check) -> Result:
    """Call a function in a new process.

    Args:
        work: of a module; called with what says a line, and the arguments; it, they and its result can be pickled.
        arguments: for it.
        say: takes the lines that it says.
        check: told when nobody waits any more; the process is ended then.

    Raises:
        AutotagError, BadInputError: what the function raised, or how it ended without a word.
        GoneError: nobody waits any more.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, work, arguments), daemon=True)
    process.start()
    there.close()
    try:
        while True:
            check()
            if not here.poll(LOOK_SECONDS):
                continue
            kind, value = here.recv()
            if kind == "done":
                result: Result = value
                return result
            if kind != "say":
                raise (BadInputError if kind == "bad" else AutotagError)(value)
            say(value)
    except EOFError:
        process.join(ENDING_SECONDS)
        raise AutotagError(f"a process that autotag started ended with the code {process.exitcode}") from None
    finally:
        process.terminate()
        process.join(ENDING_SECONDS)
        here.close()


def _work(told: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    end_with_parent()
    with contextlib.suppress(BrokenPipeError):
        try:
            told.send(("done", work(lambda line: told.send(("say", line)), *arguments)))
        except BadInputError as error:
            told.send(("bad", str(error)))
        except AutotagError as error:
            told.send(("failed", str(error)))
        except Exception as error:
            told.send(("failed", f"autotag failed: {type(error).__name__}: {error}"))
            raise
