from __future__ import annotations

import pytest

from models.hearing import Hearing
from models.registry import NETWORKS, find_network
from preprocessing.clip_format import PAPER_CLIP, ClipFormat
from preprocessing.windows import WindowRule


@pytest.mark.parametrize("name", NETWORKS)
def test_windows_lie_within_the_clip_and_its_lead(name: str) -> None:
    network = find_network(name)
    hearing = Hearing.of(network, PAPER_CLIP)
    lead = network.score_windows.lead
    assert hearing.starts[0] >= -lead
    assert hearing.starts[-1] + hearing.window <= max(PAPER_CLIP.samples + lead, hearing.window)


def test_hop_is_counted_at_the_networks_rate() -> None:
    network = find_network("sample_cnn_2017")
    hearing = Hearing.of(network, PAPER_CLIP)
    assert hearing.window == 42_848  # 59,049 samples at 22,050 Hz
    assert hearing.starts == tuple(range(0, 10 * 42_848, 42_848))


def test_a_clip_of_another_rate_has_the_same_number_of_windows() -> None:
    for name in ("sample_cnn_2017", "musicnn", "dieleman_mel", "short_chunk"):
        network = find_network(name)
        counts = {Hearing.of(network, ClipFormat(rate, 29 * rate)).windows for rate in (16_000, 22_050, 44_100)}
        assert len(counts) == 1, name


def test_rule_at_another_rate() -> None:
    assert WindowRule(hop=300, lead=10).at_rate(44_100, 22_050) == WindowRule(hop=600, lead=20)
    assert WindowRule(hop=301, lead=3).at_rate(16_000, 32_000) == WindowRule(hop=151, lead=2)
    assert WindowRule(count=4).at_rate(16_000, 22_050) == WindowRule(count=4)
