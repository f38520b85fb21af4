"""benchmarks.scaling: a rate is a result where a straight line fits, a ratio where the control grows."""

from __future__ import annotations

import pytest
from rich.console import Console

from benchmarks.scaling import Line, Run, by_workers, controls_that_do_not_grow, doubts


def runs(start: float, rate: float, noise: tuple[float, ...] = (0.0, 0.1, -0.1, 0.05)) -> list[Run]:
    """Two rounds at 1,000 and 2,000 clips."""
    counts = [1000, 2000, 1000, 2000][: len(noise)]
    return [Run(clips, start + clips / rate + off, 10**9) for clips, off in zip(counts, noise, strict=True)]


QUIET = {
    "control-1": runs(0, 60),
    "control-2": runs(0, 118),
    "flink-1": runs(14, 62),
    "flink-2": runs(14, 110),
}


def rows(of: dict[str, list[Run]]) -> dict[str, list[str]]:
    table = by_workers(of, [1000, 2000])
    columns = [list(column.cells) for column in table.columns]
    return {str(cells[0]): [str(cell) for cell in cells[1:]] for cells in zip(*columns, strict=True)}


def test_line_gives_start_rate_and_fit() -> None:
    line = Line.through(runs(14, 62, noise=(0.0, 0.0, 0.0)))
    assert (line.start, line.rate, line.fit) == (pytest.approx(14), pytest.approx(62), pytest.approx(1))
    assert line.holds


def test_good_fits_and_a_control_that_grows_are_results() -> None:
    assert doubts({way: Line.through(of_way) for way, of_way in QUIET.items()}) == []
    start, rate, fit, times, of_control, at_largest = rows(QUIET)["flink-2"]
    assert float(start) == pytest.approx(14, abs=0.3)
    assert float(rate) == pytest.approx(110, rel=0.03)
    assert float(fit) > 0.99
    assert float(times) == pytest.approx(110 / 62, rel=0.03)
    assert float(of_control) == pytest.approx(110 / 118, rel=0.03)
    assert 0 < float(at_largest) < 1


def test_no_ratio_is_made_of_a_line_that_does_not_fit() -> None:
    noisy = {**QUIET, "flink-1": runs(14, 62, noise=(30.0, -5.0, -2.0, 12.0))}
    found = rows(noisy)
    assert found["flink-1"][0] == found["flink-1"][1] == "-"
    assert found["flink-1"][2].endswith(" !")
    assert found["flink-1"][3:] == ["-", "-", "-"]
    assert found["flink-2"][3] == "-"
    assert float(found["flink-2"][4]) > 0.8
    said = doubts({way: Line.through(of_way) for way, of_way in noisy.items()})
    assert said[0].startswith("flink-1: R2 0.")
    assert "no ratio" in said[0]
    assert "quiet machine" in said[-1]


def test_times_that_fall_with_more_clips_have_no_rate() -> None:
    falling = {**QUIET, "flink-2": runs(14, 110, noise=(30.0, 0.0))}
    assert rows(falling)["flink-2"][0] == "-"
    assert any("more clips took no longer" in line for line in doubts({"flink-2": Line.through(falling["flink-2"])}))


def test_control_that_does_not_grow_is_said_and_its_ratios_are_marked() -> None:
    busy = {**QUIET, "control-2": runs(0, 70)}
    lines = {way: Line.through(of_way) for way, of_way in busy.items()}
    assert list(controls_that_do_not_grow(lines)) == ["control-2"]
    assert "control-2 is 1.1" in doubts(lines)[0]
    assert all(cell.endswith(" ?") for cell in rows(busy)["flink-2"][3:])
    assert not any(cell.endswith(" ?") for cell in rows(busy)["flink-1"][3:])


def test_two_measurements_have_no_fit_and_it_is_said() -> None:
    two = {way: of_way[:2] for way, of_way in QUIET.items()}
    assert {cells[2] for cells in rows(two).values()} == {""}
    said = doubts({way: Line.through(of_way) for way, of_way in two.items()})
    assert said[0].startswith("two measurements of a way")
    Console(quiet=True).print(by_workers(two, [1000, 2000]))
