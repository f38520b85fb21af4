"""Ctrl-C is a KeyboardInterrupt and ends the job, whatever becomes of it inside Beam."""

from __future__ import annotations

import os
import signal
import threading

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineRunner, PipelineState

from preprocessing.beam.interrupts import InterruptiblePipeline


class Result(PipelineResult):
    """A job that runs until it is cancelled."""

    def __init__(self, waiting):
        super().__init__(PipelineState.RUNNING)
        self.cancelled, self._waiting = False, waiting

    def wait_until_finish(self, duration=None):
        self._waiting()

    def cancel(self):
        self.cancelled = True


class Runner(PipelineRunner):
    """As Beam's that start a job server: it leaves a handler for Ctrl-C that fails."""

    def __init__(self, sending=lambda: None, waiting=lambda: None):
        self._sending, self.result = sending, Result(waiting)

    def run_pipeline(self, pipeline, options):
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.fail)
        self._sending()
        return self.result

    def fail(self):
        raise AssertionError("Beam's handler takes no signal")


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def press_in_vain() -> None:
    try:
        press()
    except TypeError:
        return


def press_and_become_another() -> None:
    press_in_vain()
    raise RuntimeError("Exception serializing request!")


def run(runner: Runner) -> None:
    pipeline = InterruptiblePipeline(runner=runner, options=PipelineOptions([]))
    _ = pipeline | beam.Create([1])
    pipeline.run_to_end()


@pytest.mark.parametrize("sending", [press, press_in_vain, press_and_become_another])
def test_ctrl_c_while_the_job_is_sent_is_not_lost(sending):
    before, runner = signal.getsignal(signal.SIGINT), Runner(sending)
    with pytest.raises(KeyboardInterrupt):
        run(runner)
    assert runner.result.cancelled is (sending is press_in_vain)  # else there is no result yet
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.set_wakeup_fd(-1) == -1


def test_ctrl_c_while_the_job_runs_cancels_it():
    runner = Runner(waiting=press)
    with pytest.raises(KeyboardInterrupt):
        run(runner)
    assert runner.result.cancelled


def test_other_errors_and_a_good_end_are_what_they_are():
    runner = Runner(waiting=lambda: (_ for _ in ()).throw(RuntimeError("no memory")))
    with pytest.raises(RuntimeError, match="no memory"):
        run(runner)
    assert not runner.result.cancelled
    run(Runner())


def test_jobs_run_outside_of_the_main_thread():
    ended = []

    def job() -> None:
        run(Runner())
        with InterruptiblePipeline(options=PipelineOptions(["--runner=DirectRunner"])) as pipeline:
            _ = pipeline | beam.Create([1])
        ended.append(pipeline.result.state)

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert ended == [PipelineState.DONE]
