"""What each signature of the pushed SavedModel answers, called as the server calls it."""

from __future__ import annotations

import base64
import io
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import tensorflow as tf
from exported_model import TAGS, THRESHOLDS, Exported, export, pcm_bytes, stored_example, tone, untrained_ensemble
from hostile_requests import chunk, entry, example, fmt, part
from hostile_requests import riff as hostile_riff
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from models.heads import Heads
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.clip_format import ClipFormat
from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from preprocessing.examples import encode_example, read_records
from serving.graph import request_checks
from serving.graph.ensemble import Ensemble
from serving.graph.signatures import signatures
from serving.graph.warm_up import WARM_UP_NAME
from serving.model_info import read_model_info
from serving.tagging.windowing import windows


def ask(loaded: Any, signature: str, value: list[bytes], name: str = "") -> dict[str, Any]:
    answer = loaded.signatures[signature](**{name or signature: tf.constant(value)})
    return {key: tensor.numpy() for key, tensor in answer.items()}


def riff(pcm: bytes, rate: int = SAMPLE_RATE, channels: int = 1, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    samples = np.frombuffer(pcm, "<i2")
    sf.write(file, np.repeat(samples[:, None], channels, axis=1), rate, format="WAV", subtype=subtype)
    return file.getvalue()


def by_windows(loaded: Any, pcm: bytes) -> np.ndarray[Any, np.dtype[np.float32]]:
    clips = np.stack(windows(from_pcm(np.frombuffer(pcm, "<i2"))))
    return loaded.signatures["waveform"](waveform=tf.constant(clips))["predictions"].numpy()


@pytest.mark.parametrize("lengths", [[1], [3, 1_000], [999, 1_000, 1, 500], [1_000, 1_000]])
def test_short_window_is_repeated_in_the_graph_as_preprocessing_repeats_it(lengths: list[int]) -> None:
    clip = ClipFormat(1_000, 1_000)
    songs = [np.random.default_rng(length).integers(-32_768, 32_767, length, "<i2") for length in lengths]
    waveform = request_checks.pcm_to_waveform(tf.constant([song.tobytes() for song in songs]), clip)
    np.testing.assert_array_equal(waveform, [fit_clip(from_pcm(song), clip) for song in songs])


def test_pcm_of_one_clip_is_answered_as_its_waveform(loaded: Any) -> None:
    pcm = pcm_bytes(29.1)
    answer = ask(loaded, "pcm", [pcm])
    np.testing.assert_allclose(answer["predictions"], by_windows(loaded, pcm), atol=1e-5)
    assert answer["windows"].tolist() == [1]


@pytest.mark.parametrize(
    "samples",
    [1, 2, CLIP_SAMPLES - 1, CLIP_SAMPLES + 7_999, CLIP_SAMPLES + 8_000, 2 * CLIP_SAMPLES, 3 * CLIP_SAMPLES + 7],
)
def test_pcm_of_any_length_is_answered_by_windows_and_their_mean(loaded: Any, samples: int) -> None:
    pcm = pcm_bytes(samples / SAMPLE_RATE, 330)
    expected = by_windows(loaded, pcm)
    answer = ask(loaded, "pcm", [pcm])
    assert answer["windows"].tolist() == [len(expected)]
    np.testing.assert_allclose(answer["window_predictions"][0], expected, atol=1e-5)
    np.testing.assert_allclose(answer["predictions"][0], expected.mean(axis=0), atol=1e-5)


def test_clips_of_different_lengths_in_one_request_keep_apart(loaded: Any) -> None:
    clips = [pcm_bytes(1, 200), pcm_bytes(70, 300), pcm_bytes(29.1, 500), pcm_bytes(200, 700)]
    together = ask(loaded, "pcm", clips)
    assert together["windows"].tolist() == [1, 3, 1, 7]
    assert together["window_predictions"].shape == (4, 7, len(TAGS))
    for row, clip in enumerate(clips):
        alone = ask(loaded, "pcm", [clip])
        count = int(alone["windows"][0])
        np.testing.assert_allclose(together["predictions"][row], alone["predictions"][0], atol=1e-5)
        np.testing.assert_allclose(
            together["window_predictions"][row, :count], alone["window_predictions"][0], atol=1e-5
        )
        assert not together["window_predictions"][row, count:].any()


def test_more_windows_than_are_computed_at_once(loaded: Any) -> None:
    pcm = pcm_bytes(5 * CLIP_SAMPLES / SAMPLE_RATE, 250)
    expected = by_windows(loaded, pcm)
    assert len(expected) == 5
    np.testing.assert_allclose(ask(loaded, "pcm", [pcm])["window_predictions"][0], expected, atol=1e-5)


def test_a_batch_of_waveforms_larger_than_one_part(loaded: Any) -> None:
    clips = np.stack([tone(29.1, 200 + 50 * number) for number in range(3)])
    together = loaded.signatures["waveform"](waveform=tf.constant(clips))["predictions"].numpy()
    alone = [
        loaded.signatures["waveform"](waveform=tf.constant(clip[None]))["predictions"].numpy()[0] for clip in clips
    ]
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_wav_is_answered_as_its_samples(loaded: Any, channels: int) -> None:
    pcm = pcm_bytes(31)
    answer, expected = ask(loaded, "wav", [riff(pcm, channels=channels)]), ask(loaded, "pcm", [pcm])
    assert set(answer) == set(expected)
    np.testing.assert_allclose(answer["window_predictions"], expected["window_predictions"], atol=1e-5)


def test_stereo_wav_is_averaged_and_rounded_as_preprocessing_does(loaded: Any, tmp_path: Path) -> None:
    left, right = tone(5, 300), tone(5, 700)
    stereo = io.BytesIO()
    sf.write(stereo, np.stack([left, right], axis=1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    decoded = sf.read(io.BytesIO(stereo.getvalue()), dtype="float32")[0].mean(axis=1)
    expected = ask(loaded, "pcm", [to_pcm(decoded).tobytes()])
    np.testing.assert_allclose(
        ask(loaded, "wav", [stereo.getvalue()])["predictions"], expected["predictions"], atol=1e-6
    )


def test_thresholds_and_no_tag_go_with_every_answer(loaded: Any, clips: Any) -> None:
    answer = loaded.signatures["waveform"](waveform=tf.constant(clips))
    predictions = answer["predictions"].numpy()
    np.testing.assert_allclose(answer["thresholds"].numpy(), np.tile(np.float32(THRESHOLDS), (2, 1)))
    np.testing.assert_array_equal(answer["above_threshold"].numpy(), predictions >= np.float32(THRESHOLDS))
    np.testing.assert_array_equal(answer["no_tag"].numpy(), ~(predictions >= np.float32(THRESHOLDS)).any(axis=1))


def test_a_clip_in_which_nothing_reaches_its_threshold_says_so(tmp_path: Path, exported: Exported, loaded: Any) -> None:
    from exported_model import DATA, SCORES

    from serving.graph.export import export_ensemble

    ensemble = Ensemble.restore(exported.path)
    export_ensemble(tmp_path / "m", ensemble, TAGS, [1.0] * len(TAGS), DATA, SCORES)
    answer = ask(tf.saved_model.load(str(tmp_path / "m")), "pcm", [pcm_bytes(5)])
    assert answer["no_tag"].tolist() == [True]
    assert not answer["above_threshold"].any()
    np.testing.assert_allclose(answer["predictions"], ask(loaded, "pcm", [pcm_bytes(5)])["predictions"], atol=1e-6)


def test_classify_gives_every_tag_with_its_score_and_carries_the_method_of_the_classify_api(
    loaded: Any, exported: Exported, clips: Any
) -> None:
    examples = [stored_example(clip) for clip in clips]
    answer = ask(loaded, "classify", examples, "inputs")
    expected = ask(loaded, "serving_default", examples, "examples")
    np.testing.assert_array_equal(answer["classes"], expected["tags"])
    np.testing.assert_array_equal(answer["scores"], expected["predictions"])
    saved = saved_model_pb2.SavedModel.FromString((exported.path / "saved_model.pb").read_bytes())
    methods = {name: signature.method_name for name, signature in saved.meta_graphs[0].signature_def.items()}
    assert methods.pop("classify") == "tensorflow/serving/classify"
    assert set(methods.values()) - {""} == {"tensorflow/serving/predict"}


def test_last_layer_on_the_embedding_gives_the_predictions(loaded: Any, exported: Exported) -> None:
    answer = ask(loaded, "embedding", [pcm_bytes(29.1), pcm_bytes(20, 800)], "pcm")
    assert answer["embedding"].shape == (2, 512)
    kernel, bias = exported.combiner.get_layer("logits").get_weights()
    expected = ask(loaded, "pcm", [pcm_bytes(29.1), pcm_bytes(20, 800)])["predictions"]
    np.testing.assert_allclose(1 / (1 + np.exp(-(answer["embedding"] @ kernel + bias))), expected, atol=1e-5)
    again = ask(loaded, "embedding", [pcm_bytes(29.1), pcm_bytes(20, 800)], "pcm")
    np.testing.assert_array_equal(answer["embedding"], again["embedding"])


def test_embedding_of_a_long_clip_is_the_mean_over_its_windows(loaded: Any) -> None:
    first, second = pcm_bytes(29.1, 300), pcm_bytes(29.1, 600)
    answer = ask(loaded, "embedding", [first, second, first + second], "pcm")
    assert answer["windows"].tolist() == [1, 1, 2]
    np.testing.assert_allclose(answer["embedding"][2], answer["embedding"][:2].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize(("name", "width"), [("mel_1d", 384), ("mel_2d", 512), ("waveform_1d", 1024), ("musicnn", 200)])
def test_a_branch_alone_has_an_embedding_too(exported: Exported, name: str, width: int) -> None:
    """The signature's own function: what is exported of it is the others' test."""
    ensemble = untrained_ensemble((name,), Heads.of_tags(len(TAGS)))
    function, spec = signatures(ensemble, read_model_info(exported.path))["embedding"]
    ask_embedding = tf.function(function, input_signature=[spec], autograph=False)
    vectors = ask_embedding(tf.constant([pcm_bytes(40), pcm_bytes(1)]))["embedding"].numpy()
    assert vectors.shape == (2, width)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_networks_restored_from_a_pushed_version_give_the_same_answers(
    loaded: Any, exported: Exported, clips: Any
) -> None:
    restored = Ensemble.restore(exported.path)
    expected = loaded.signatures["waveform"](waveform=tf.constant(clips))["predictions"].numpy()
    np.testing.assert_allclose(restored.from_waveform(tf.constant(clips)).numpy(), expected, atol=1e-6)


def test_every_warm_up_request_is_one_that_the_model_answers(loaded: Any, exported: Exported) -> None:
    asked = []
    with open(exported.path / WARM_UP_NAME, "rb") as file:
        for record in read_records(file):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.WhichOneof("log_type") == "classify_log":
                request = log.classify_log.request
                examples = [example.SerializeToString() for example in request.input.example_list.examples]
                inputs = {"inputs": tf.constant(examples)}
            else:
                request = log.predict_log.request
                inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
            asked.append(request.model_spec.signature_name)
            answer = loaded.signatures[request.model_spec.signature_name](**inputs)
            assert all(np.isfinite(value).all() for value in answer.values() if value.dtype == tf.float32)
    assert set(asked) == set(loaded.signatures) - {"labels"}
    assert len(asked) == len(set(asked))


def wrong_pcm() -> dict[str, tuple[Any, str]]:
    return {
        "rank 0": (b"1234", "expected a list of little-endian int16 samples"),
        "rank 2": ([[b"1234"]], "expected a list of little-endian int16 samples"),
        "no clips": (np.zeros(0, "S1"), "expected at least one clip"),
        "empty": ([b""], r"at least one sample.*got \[0\] bytes"),
        "odd": ([b"12", b"123"], r"two bytes a sample.*got \[3\] bytes"),
        "many": ([b"12"] * 129, "at most 128 clips in one request, got 129"),
        "more than an hour": ([bytes(2 * 3600 * SAMPLE_RATE + 2)], "at most an hour .57600000 samples., got 57600001"),
    }


@pytest.mark.parametrize("signature", ["pcm", "embedding"])
@pytest.mark.parametrize("case", list(wrong_pcm()))
def test_wrong_pcm_is_refused_with_words_that_help(loaded: Any, signature: str, case: str) -> None:
    value, words = wrong_pcm()[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"pcm: .*{words}"):
        ask(loaded, signature, value, "pcm")


def wrong_wav() -> dict[str, tuple[Any, str]]:
    pcm = pcm_bytes(1)
    good = riff(pcm)
    return {
        "rank 0": (good, "wav: expected a list of RIFF files"),
        "44.1 kHz": (
            [riff(pcm, 44_100)],
            "wav: expected a sample rate of 16000 Hz, got 44100; resample the file first",
        ),
        "one of two": ([good, riff(pcm, 8_000)], "wav: expected a sample rate of 16000 Hz, got 8000"),
        "float": ([riff(pcm, subtype="FLOAT")], r"format 1 .PCM. and 16 bits a sample, got \[\[3 32\]\]"),
        "24 bits": ([good, riff(pcm, subtype="PCM_24")], r"got \[\[1 24\]\].* plain 16-bit PCM"),
        "rate beyond 2^31": (
            [good[:24] + struct.pack("<I", 2**31 + SAMPLE_RATE) + good[28:]],
            "wav: expected a sample rate of 16000 Hz, got 2147499648",
        ),
        "no audio": ([riff(b"")], "wav: expected at least one sample"),
        "empty": ([b""], "wav: expected RIFF files of type WAVE, got 1 of another kind"),
        "not RIFF": ([good, b"abc" * 9], "wav: expected RIFF files of type WAVE, got 1 of another kind"),
        "MP3": ([good, b"ID3\x04" + bytes(200)], "wav: .* RIFF .* clip 1 begins as an MP3: decode it to 16000 Hz"),
        "base64": ([base64.b64encode(good)], "clip 0 looks like base64 text: .b64: .... was forgotten"),
        "RIFF of another type": ([good[:8] + b"AVI " + good[12:]], "wav: expected RIFF files of type WAVE"),
        "header alone": ([good[:40]], "wav: expected one chunk named data; 1 of the files have none"),
        "cut": ([good[:-7]], "wav: the file is cut: .7. bytes of the data that it announces are missing"),
        "two data chunks": ([good + b"data\4\0\0\0abcd"], "wav: expected one chunk named data; 1 of the files"),
        "name that is no text": ([good[:12] + b"\xff\xfe\xfd\xfc" + good[16:]], "expected one chunk named fmt"),
        "many": ([good] * 129, "wav: expected at most 128 clips"),
    }


@pytest.mark.parametrize("case", list(wrong_wav()))
def test_wrong_wav_is_refused(loaded: Any, case: str) -> None:
    value, words = wrong_wav()[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        ask(loaded, "wav", value)


def lawful_wav() -> dict[str, bytes]:
    """Files of the same samples, each in another way of writing them."""
    pcm = pcm_bytes(2)
    data, odd = chunk(b"data", pcm), b"INFOabc"
    fact = chunk(b"fact", struct.pack("<I", len(pcm) // 2))
    extensible = struct.pack("<HHI", 22, 16, 4) + b"\1\0\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    return {
        "LIST before fmt": hostile_riff([chunk(b"LIST", b"INFO" + bytes(10)), fmt(), data]),
        "fact before fmt": hostile_riff([fact, fmt(), data]),
        "fact after fmt": hostile_riff([fmt(extra=bytes(2)), fact, data]),
        "odd chunk, padded": hostile_riff([fmt(), chunk(b"LIST", odd), data]),
        "odd chunk, pad byte missing": hostile_riff([fmt(), chunk(b"LIST", odd, pad=False), data]),
        "odd chunk first, padded with a letter": hostile_riff([chunk(b"abcd", odd, pad=False) + b"x", fmt(), data]),
        "name that is not UTF-8": hostile_riff([chunk(b"\xff\xfe\x80\x81", b"ab"), fmt(), data]),
        "ffmpeg's pipe": hostile_riff([fmt(), chunk(b"data", pcm, 0xFFFFFFFF)], 0xFFFFFFFF),
        "sox's pipe": hostile_riff([fmt(), chunk(b"data", pcm, 0x7FFFF000 - 36)], 0x7FFFF000),
        "pipe that ends in half a sample": hostile_riff([fmt(), chunk(b"data", pcm + b"a", 0xFFFFFFFF, pad=False)]),
        "chunks after the data": hostile_riff([fmt(), data, chunk(b"LIST", odd), chunk(b"id3 ", bytes(40))]),
        "tag of another kind after the data": hostile_riff([fmt(), data]) + b"TAG" + bytes(125),
        "zeros after the data": hostile_riff([fmt(), data]) + bytes(50_000),
        "extensible": hostile_riff([fmt(0xFFFE, extra=extensible), data]),
        "wrong size of the whole": hostile_riff([fmt(), data], 7),
    }


@pytest.mark.parametrize("case", list(lawful_wav()))
def test_wav_is_answered_as_its_samples_however_its_chunks_lie(loaded: Any, case: str) -> None:
    expected = ask(loaded, "pcm", [pcm_bytes(2)])
    answer = ask(loaded, "wav", [riff(pcm_bytes(3)), lawful_wav()[case]])
    np.testing.assert_allclose(answer["predictions"][1], expected["predictions"][0], atol=1e-5)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg")
@pytest.mark.parametrize("options", [[], ["-ac", "2"], ["-ac", "6"], ["-metadata", "title=abc"], ["-bitexact"]])
def test_what_ffmpeg_writes_into_a_pipe_is_answered(loaded: Any, tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "a.wav").write_bytes(riff(pcm_bytes(2)))
    call = ["ffmpeg", "-v", "error", "-i", str(tmp_path / "a.wav"), *options, "-f", "wav", "-c:a", "pcm_s16le", "-"]
    wav = subprocess.run(call, check=True, capture_output=True).stdout
    assert wav[4:8] == b"\xff\xff\xff\xff"
    answer = ask(loaded, "wav", [wav])
    assert answer["windows"].tolist() == [1]
    if "-ac" not in options:
        expected = ask(loaded, "pcm", [pcm_bytes(2)])
        np.testing.assert_allclose(answer["predictions"], expected["predictions"], atol=1e-6)


def test_words_about_a_file_repeat_none_of_its_bytes(loaded: Any) -> None:
    for name in (b"\xff\xfe\x80\x81", b"\xc3\x28ab", b'a"\\\n'):
        files = [[chunk(name, b"ab")], [fmt(), chunk(name, b"ab", 2**31)], [fmt(), chunk(name, b"abc", pad=False)]]
        for wav in (*map(hostile_riff, files), b"RIFF" + name):
            with pytest.raises(tf.errors.InvalidArgumentError) as caught:
                ask(loaded, "wav", [wav])
            assert "wav: " in caught.value.message
            assert caught.value.message.isascii()


@pytest.mark.parametrize(
    ("signature", "value"),
    [
        ("serving_default", [stored_example(tone(1))[:50]] * 129),
        ("classify", [b""] * 129),
        ("labels", [b""] * 200_000),
        ("waveform", np.zeros((129, 3), np.float32)),
        ("pcm", [b"12"] * 129),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_signature_takes_more_than_128_clips(loaded: Any, signature: str, value: Any) -> None:
    names = {"serving_default": "examples", "classify": "inputs", "labels": "examples"}
    words = f"expected at most 128 clips in one request, got {len(value)};"
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        ask(loaded, signature, value, names.get(signature, ""))


def test_clips_of_one_request_are_together_little_more_than_an_hour(loaded: Any) -> None:
    hour = bytes(2 * 3600 * SAMPLE_RATE)
    with pytest.raises(tf.errors.InvalidArgumentError, match="pcm: expected at most 59596800 samples in one request"):
        ask(loaded, "pcm", [hour, hour])


def wrong_tags() -> dict[str, tuple[list[bytes], str]]:
    few = encode_example({"tags": [b"piano"]})
    return {
        "too many": ([few, encode_example({"tags": [b""] * 1025})], "feature tags: expected at most 1024 tags"),
        "floats": (
            [few, encode_example({"tags": 1.0})],
            "feature tags: expected a list of bytes, got another type in 1",
        ),
        "garbage": ([few, b"piano"], "expected serialised tf.Examples, got 1 that are cut or something else"),
        "a tag of 2 GB": ([example(entry(b"tags", part(1, part(1, b"a", 2**31))))], "lengths inside that do not fit"),
    }


@pytest.mark.parametrize("case", list(wrong_tags()))
def test_labels_refuses_wrong_tags(loaded: Any, case: str) -> None:
    examples, words = wrong_tags()[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=words):
        ask(loaded, "labels", examples, "examples")


def test_labels_of_a_large_batch_with_as_many_tags_as_are_allowed(loaded: Any) -> None:
    examples = [encode_example({"tags": [b"x"] * 1023 + [b"piano"]})] + [encode_example({"tags": [b"drums"]})] * 99
    labels = ask(loaded, "labels", examples, "examples")["labels"]
    assert labels[0].tolist() == [0, 0, 1, 0, 0, 0]
    assert (labels[1:] == [0, 0, 0, 1, 0, 0]).all()


def test_values_that_cannot_be_used_are_counted_over_all_parts_of_a_batch(loaded: Any) -> None:
    clips = np.zeros((3, CLIP_SAMPLES), np.float32)
    clips[0, 0], clips[-1, -1], clips[-1, 0] = np.nan, np.inf, 7
    with pytest.raises(tf.errors.InvalidArgumentError, match="got 2 NaN or infinite"):
        loaded.signatures["waveform"](waveform=tf.constant(clips))
    with pytest.raises(tf.errors.InvalidArgumentError, match="got one of size 7"):
        loaded.signatures["waveform"](waveform=tf.constant(np.nan_to_num(clips, nan=0, posinf=0)))


def test_mel_branches_alone_answer_all_signatures(tmp_path: Path) -> None:
    exported = export(tmp_path / "m", ("mel_1d", "mel_2d"))
    loaded = tf.saved_model.load(str(exported.path))
    answer = ask(loaded, "wav", [riff(pcm_bytes(3))])
    assert answer["predictions"].shape == (1, len(TAGS))
    assert ask(loaded, "embedding", [pcm_bytes(3)], "pcm")["embedding"].shape == (1, 512)


def test_silent_windows_do_not_count_and_are_told(loaded: Any) -> None:
    clip, nothing = pcm_bytes(29.1, 300), bytes(2 * CLIP_SAMPLES)
    heard = ask(loaded, "pcm", [clip])["predictions"][0]
    answer = ask(loaded, "pcm", [nothing + clip + nothing, nothing, clip, b"\0\0"])
    assert answer["silent_windows"].tolist() == [
        [True, False, True],
        [True] + 2 * [False],
        3 * [False],
        [True, False, False],
    ]
    assert answer["silent"].tolist() == [False, True, False, True]
    np.testing.assert_allclose(answer["predictions"][[0, 2]], [heard, heard], atol=1e-5)
    np.testing.assert_allclose(answer["window_predictions"][0, 1], heard, atol=1e-5)
    for zero in (answer["predictions"][[1, 3]], answer["window_predictions"][0, [0, 2]]):
        assert not zero.any()
    assert not answer["above_threshold"][[1, 3]].any()
    assert answer["no_tag"][[1, 3]].all()

    vectors = ask(loaded, "embedding", [nothing + clip, clip, nothing], "pcm")
    assert vectors["silent_windows"].tolist() == [[True, False], [False, False], [True, False]]
    np.testing.assert_allclose(vectors["embedding"][0], vectors["embedding"][1], atol=1e-5)
    assert not vectors["embedding"][2].any()


def test_silent_clip_has_no_tag_in_any_signature(loaded: Any, clips: Any) -> None:
    silent = np.stack([clips[0], np.zeros(CLIP_SAMPLES, np.float32)])
    examples = [stored_example(clip) for clip in silent]
    by_example = ask(loaded, "serving_default", examples, "examples")
    by_waveform = loaded.signatures["waveform"](waveform=tf.constant(silent))
    for answer in (by_example, {name: value.numpy() for name, value in by_waveform.items()}):
        assert answer["silent"].tolist() == [False, True]
        assert not answer["predictions"][1].any()
        assert not answer["above_threshold"][1].any()
        assert answer["no_tag"][1]
    assert not ask(loaded, "classify", examples, "inputs")["scores"][1].any()
