"""Ctrl-C while a Beam job runs: ends the job where it runs, too, and is a KeyboardInterrupt here."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from preprocessing.runners import flink_job

_SIGNS_OF_INTERRUPT = ("KeyboardInterrupt", "StopOnExitJobServer.stop() takes")
"""What Beam's errors have in them after Ctrl-C: in a worker process, or while its job server starts."""


class InterruptiblePipeline(beam.Pipeline):  # type: ignore[misc]
    """Beam's pipeline, whose job does not outlive a Ctrl-C: a cluster would go on with it for nobody.

    For a ``with`` block or run_to_end(), which wait for the job's end.

    Raises:
        KeyboardInterrupt: Ctrl-C, whatever Beam makes of it.
        BadInputError: the job is for a Flink cluster that does not answer.
    """

    def run_to_end(self) -> None:
        """Run the job and wait for its end."""
        with self:
            pass

    def run(self, test_runner_api: bool | str = "AUTO") -> Any:
        """Begin the job; Beam's job servers set a handler for Ctrl-C that fails, which is taken away again."""
        with _interrupts_ours():
            return super().run(test_runner_api)

    def __exit__(self, *raised: Any) -> None:
        """Run the job and wait for its end, unless the block raised something."""
        job = flink_job(self.options) if raised[0] is None else None
        try:
            super().__exit__(*raised)
        except BaseException as error:
            if not _is_interrupt(error):
                raise
            with contextlib.suppress(OSError):
                if job is not None:
                    job.cancel()
            with contextlib.suppress(Exception):  # not begun, its job server has ended, or it cannot be cancelled
                self.result.cancel()
            raise KeyboardInterrupt from None


def _is_interrupt(error: BaseException) -> bool:
    said = isinstance(error, Exception) and any(sign in str(error) for sign in _SIGNS_OF_INTERRUPT)
    return said or isinstance(error, KeyboardInterrupt)


@contextlib.contextmanager
def _interrupts_ours() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
