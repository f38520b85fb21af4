from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_model import EngineModel
from exported_model import DATA, SCORES, followed_by_silence, tone, untrained_ensemble

from models.heads import MULTI_LABEL, ONE_OF, Head, Heads
from preprocessing.audio.samples import fit_clip
from preprocessing.errors import BadInputError
from serving.engines import runtimes
from serving.engines.engine_files import onnx_file
from serving.engines.last_layer import find_last_layer, with_output
from serving.engines.runtimes import EMBEDDING_ORDER, load_embedding_engine
from serving.tagging.sources import LocalModel
from serving.tagging.tagger import Tagger


@pytest.fixture(scope="module")
def heard() -> Any:
    """Three clips, float32 [3, 465600]."""
    return np.stack([fit_clip(tone(30)), fit_clip(followed_by_silence(tone(11, 880))), fit_clip(tone(29, 220))])


def onnx_of(ensemble: Any) -> bytes:
    """The ONNX file of networks."""
    from serving.graph.onnx_export import convert_model
    from serving.model_info import ModelInfo

    size = ensemble.heads.size
    info = ModelInfo(
        tags=tuple(f"tag {number}" for number in range(size)),
        thresholds=(0.5,) * size,
        heads=ensemble.heads,
        clip=ensemble.clip,
        members=tuple(member.info for member in ensemble.members),
        combiner=ensemble.combiner_info,
        data=DATA,
        scores=SCORES,
    )
    return convert_model(ensemble, info, "1")


def cosines(first: Any, second: Any) -> Any:
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


@pytest.mark.parametrize("name", EMBEDDING_ORDER)
def test_engine_gives_the_embedding_of_the_networks_and_its_own_probabilities(
    model: EngineModel, heard: Any, name: str
) -> None:
    engine = load_embedding_engine(model.path, name, threads=2)
    probabilities, vectors = engine.embed(heard)
    expected = model.ensemble.embed(heard).numpy()
    assert vectors.shape == expected.shape == (3, model.ensemble.embedding_size)
    assert vectors.dtype == probabilities.dtype == np.float32
    assert cosines(vectors, expected).min() > (0.98 if name == "openvino" else 0.9999)
    np.testing.assert_array_equal(engine.predict(heard), probabilities)
    assert cosines(expected[:1], expected[2:])[0] < 0.99999, "the clips must be told apart"


@pytest.mark.parametrize(
    ("names", "combiner", "heads"),
    [
        (("mel_1d",), "dense", Heads.of_tags(4)),
        (("waveform_1d",), "dense", Heads.of_tags(4)),
        (("fcn",), "dense", Heads.of_tags(4)),
        (("mel_1d", "waveform_1d"), "dense", Heads((Head("mood", ONE_OF, 3), Head("tags", MULTI_LABEL, 2)))),
    ],
)
def test_the_last_layer_is_found_in_the_file_of_a_network_and_of_several(
    names: tuple[str, ...], combiner: str, heads: Heads, heard: Any
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ensemble = untrained_ensemble(names, heads, combiner=combiner)
    content = onnx_of(ensemble)
    layer = find_last_layer(content)
    assert layer is not None
    session = onnxruntime.InferenceSession(with_output(content, layer.tensor), providers=["CPUExecutionProvider"])
    for clip in heard[:2]:
        answers, values = session.run(None, {"waveform": clip[None]})
        np.testing.assert_allclose(answers, ensemble.from_waveform(clip[None]).numpy(), atol=1e-3)
        np.testing.assert_allclose(layer.embedding(values), ensemble.embed(clip[None]).numpy(), rtol=1e-3, atol=1e-3)


def test_a_mean_of_networks_has_no_last_layer_in_its_file() -> None:
    ensemble = untrained_ensemble(("mel_1d", "waveform_1d"), Heads.of_tags(3), combiner="mean")
    assert find_last_layer(onnx_of(ensemble)) is None


def test_a_song_has_the_mean_of_its_windows_embeddings(model: EngineModel, tmp_path: Path) -> None:
    import soundfile as sf

    samples = np.concatenate([tone(29.1), tone(29.1, 220), np.zeros(465_600, np.float32)])
    sf.write(tmp_path / "song.wav", samples, 16_000)
    source = LocalModel(model.path, "onnxruntime", embeddings=True)
    song = Tagger(source).tag_file(tmp_path / "song.wav")
    assert song.silences.tolist() == [False, False, True]
    assert song.embedding is not None
    windows = np.stack([samples[:465_600], samples[465_600:931_200]])
    expected = source.answer(windows).embeddings
    assert expected is not None
    np.testing.assert_allclose(song.embedding, expected.mean(axis=0), rtol=1e-3, atol=1e-4)
    assert source.embedding_size == len(song.embedding)
    assert Tagger(LocalModel(model.path, "onnxruntime")).tag_file(tmp_path / "song.wav").embedding is None


def test_auto_is_the_fastest_engine_that_gives_embeddings(model: EngineModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_embedding_engine(model.path, threads=1).name == "openvino"
    monkeypatch.setattr(runtimes, "_last_layer", lambda model_dir: None)
    assert load_embedding_engine(model.path).name == "tensorflow"


def test_an_engine_without_embeddings_is_refused_with_those_that_have_them(
    model: EngineModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInputError, match="litert gives no embeddings; take one of the engines openvino, onnx"):
        load_embedding_engine(model.path, "litert")
    monkeypatch.setattr(runtimes, "_last_layer", lambda model_dir: None)
    with pytest.raises(BadInputError, match="take --engine tensorflow"):
        load_embedding_engine(model.path, "onnxruntime")
    monkeypatch.setattr(runtimes, "_missing", lambda name, model_dir: "not there")
    with pytest.raises(BadInputError, match="pip install openvino or onnxruntime"):
        load_embedding_engine(model.path)


def test_the_file_stays_as_it_is(model: EngineModel) -> None:
    content = onnx_file(model.path).read_bytes()
    assert len(with_output(content, "x")) < len(content) + 20
