"""How a Beam job ends before its time: Ctrl-C ends it where it runs, too; a failure on Flink names what it lacked."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam

from preprocessing.beam.flink import FlinkJob, flink_job
from preprocessing.beam.flink_failures import advice_on
from preprocessing.errors import AutotagError


class InterruptiblePipeline(beam.Pipeline):  # type: ignore[misc]
    """Beam's pipeline, whose job does not outlive a Ctrl-C: a cluster would go on with it for nobody.

    For a ``with`` block or run_to_end(), which wait for the job's end.

    Raises:
        KeyboardInterrupt: Ctrl-C, whatever Beam makes of it.
        BadInputError: the job is for a Flink cluster that does not answer.
        AutotagError: the job failed on Flink for want of something that a setting gives, which is named.
    """

    _pressed: Callable[[], bool] = staticmethod(lambda: False)

    def run_to_end(self) -> None:
        """Run the job and wait for its end."""
        with self:
            pass

    def run(self, test_runner_api: bool | str = "AUTO") -> Any:
        """Begin the job; the handler for Ctrl-C that Beam's job servers set, which fails, is taken away again."""
        before = signal.getsignal(signal.SIGINT)
        try:
            self.result = super().run(test_runner_api)
        finally:
            if before is not None and threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, before)
        if self._pressed():
            raise KeyboardInterrupt
        return self.result

    def __exit__(self, *raised: Any) -> None:
        """Run the job and wait for its end, unless the block raised something."""
        job = flink_job(self.options) if raised[0] is None else None
        with _ctrl_c() as self._pressed:
            try:
                super().__exit__(*raised)
            except BaseException as error:
                if not isinstance(error, KeyboardInterrupt) and not self._pressed():
                    _raise_with_advice(error, job)
                    raise
                with contextlib.suppress(OSError):
                    if job is not None:
                        job.cancel()
                with contextlib.suppress(Exception):  # not begun, its job server has ended, or it cannot be cancelled
                    self.result.cancel()
                raise KeyboardInterrupt from None
            finally:
                del self._pressed


def _raise_with_advice(error: BaseException, job: FlinkJob | None) -> None:
    """Raise what a failed job on Flink lacked, where that is known and its workers said nothing of their own."""
    own = isinstance(error, AutotagError) or any(name in str(error) for name in ("AutotagError: ", "BadInputError: "))
    if job is None or own:
        return
    said = job.why_it_failed() or advice_on([str(error)])
    if said:
        raise AutotagError(f"the job on Flink failed: {said}") from error


@contextlib.contextmanager
def _ctrl_c() -> Iterator[Callable[[], bool]]:
    """Yield what says whether Ctrl-C was pressed since: its exception may be lost inside gRPC or become another."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    numbers = bytearray()

    def pressed() -> bool:
        with contextlib.suppress(BlockingIOError):
            numbers.extend(os.read(reading, 1024))
        return signal.SIGINT in numbers

    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield pressed
    finally:
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)
