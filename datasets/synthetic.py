"""The synthetic corpus: music in the small that ``autotag make-corpus`` writes, in MagnaTagATune's layout.

It tries the pipeline where no real data set is at hand; a model that has heard nothing else tags real music wrongly.
``datasets.synthesis`` makes it. As many clips of 29.1 s as were asked for, two to four of a track, with a part of
MagnaTagATune's 188 tags; names, tables and split rules are MagnaTagATune's, and so is the reader.

Source: this project. Licence: Apache-2.0, as the program that makes it. Citation: none.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from datasets import mtat
from datasets.dataset import Card

CARD: Final = Card(
    title="The synthetic corpus", sources=("autotag make-corpus",), licence="Apache-2.0", counts={}, citation=""
)

DATASET: Final = replace(
    mtat.DATASET, name="synthetic", card=CARD, remotes=(), broken={}, not_offered="autotag make-corpus writes it"
)
