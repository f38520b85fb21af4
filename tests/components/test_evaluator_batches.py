"""The Evaluator asks a model for no more clips at a time than the model takes."""

from __future__ import annotations

from tfx_bsl.coders import batch_util

from components.baseline import batches_of_at_most
from serving.client.requests import MOST_CLIPS


def test_batches_that_tfx_reads_are_bounded_and_later_ones_are_not() -> None:
    before = batch_util.GetBatchElementsKwargs(None)["max_batch_size"]
    assert before > MOST_CLIPS
    with batches_of_at_most(MOST_CLIPS):
        assert batch_util.GetBatchElementsKwargs(None)["max_batch_size"] == MOST_CLIPS
    assert batch_util.GetBatchElementsKwargs(None)["max_batch_size"] == before
