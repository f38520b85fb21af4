from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pitch_model import BANDS, card, index_it
from tones import write_audio

from serving.library import indexing, neighbours
from serving.library.index_file import IndexFile
from serving.library.library import Library
from serving.library.neighbours import GRAPH, Neighbours, build_graph, unit
from serving.library.places import INDEX_NAME


def clustered(count: int, size: int = 32, seed: int = 0) -> neighbours.Vectors:
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(20, size))
    return unit(centres[draw.integers(0, 20, count)] + 0.5 * draw.normal(size=(count, size)))


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 5))
def test_exact_neighbours_are_those_of_a_sort(songs: int, count: int, seed: int) -> None:
    vectors = clustered(songs, 8, seed)
    near = Neighbours(vectors).nearest(vectors[0], count)
    cosines = vectors @ vectors[0]
    assert near.places.tolist() == np.argsort(-cosines, kind="stable")[:count].tolist()
    np.testing.assert_array_equal(near.cosines, cosines[near.places])


def test_only_those_that_may_answer_do() -> None:
    vectors = clustered(100)
    among = np.arange(1, 100, 7)
    near = Neighbours(vectors, build_graph(vectors)).nearest(vectors[0], 5, among)
    expected = among[np.argsort(-(vectors[among] @ vectors[0]))[:5]]
    assert near.places.tolist() == expected.tolist()


def test_the_graph_finds_nearly_all_that_the_exact_answer_has() -> None:
    vectors = clustered(3_000)
    exact, graph = Neighbours(vectors), Neighbours(vectors, build_graph(vectors))
    assert graph.approximate
    shared = []
    for vector in vectors[:100]:
        found, expected = graph.nearest(vector, 10), exact.nearest(vector, 10)
        shared.append(len(set(found.places.tolist()) & set(expected.places.tolist())) / 10)
        np.testing.assert_allclose(found.cosines[0], 1, atol=1e-5)
    assert np.mean(shared) > 0.95


def test_silent_songs_are_not_in_the_graph() -> None:
    vectors = clustered(50)
    vectors[10] = 0
    near = Neighbours(vectors, build_graph(vectors)).nearest(vectors[0], 50)
    assert 10 not in near.places


def test_pairs_are_those_above_a_cosine() -> None:
    vectors = clustered(70)
    cosines = vectors @ vectors.T
    pairs = Neighbours(vectors).pairs(70, 0.6)
    expected = [(a, b) for a in range(70) for b in range(a + 1, 70) if cosines[a, b] >= 0.6]
    assert [tuple(pair) for pair in pairs.tolist()] == expected
    assert Neighbours(vectors[:1]).pairs(20, 0.5).shape == (0, 2)
    assert Neighbours(vectors[:0]).pairs(20, 0.5).shape == (0, 2)


def test_a_large_index_keeps_a_graph_and_makes_it_anew_when_songs_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "EXACT_UP_TO", 3)
    for number in range(4):
        write_audio(tmp_path / f"{number}.wav", 2, 300 + 40 * number)
    index_it(tmp_path)
    with IndexFile.open(tmp_path / INDEX_NAME) as file:
        first = file.derived(GRAPH)
    assert first is not None
    with Library(tmp_path / INDEX_NAME) as library:
        exact = [match.song.path for match in library.similar("0.wav", 3, "low or not low")]
        assert [match.song.path for match in library.similar("0.wav", 3)] == exact
        assert library.similar("0.wav", 3, "low")[0].song.path == "1.wav"
    monkeypatch.setattr(indexing, "keep_neighbours", lambda file: None)
    write_audio(tmp_path / "4.wav", 2, 600)
    index_it(tmp_path)
    with IndexFile.open(tmp_path / INDEX_NAME) as file:
        assert file.derived(GRAPH) is None, "it is of songs that were"
    monkeypatch.undo()
    with Library(tmp_path / INDEX_NAME) as library:
        assert len(library.similar("4.wav", 4)) == 4


def test_an_empty_index_has_no_neighbours(tmp_path: Path) -> None:
    with IndexFile.create(tmp_path / "empty.sqlite", card(), tmp_path):
        pass
    with Library(tmp_path / "empty.sqlite") as library:
        assert library.similar_to(np.ones(BANDS, np.float32)) == []
        assert library.search("low").total == 0
        assert library.state().files == 0
