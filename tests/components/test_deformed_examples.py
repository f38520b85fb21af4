"""DeformedExamples by itself: TFX's artifacts, Beam's direct runner, real records."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from folders import hashes
from small_splits import CLIP, SmallClip, write_split
from tfx.types import artifact_utils, standard_artifacts

from components.deformed_examples import DeformedExamples, DeformedExamplesExecutor, deformed_patterns
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.deformations import Deformation, parse_deformation
from preprocessing.deformed_examples import deformed_example
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.examples import Example, decode_waveform, encode_example, read_records
from preprocessing.features import HEALTH_FEATURES, health, log_mel

CLIPS = [SmallClip(f"{number}", 200.0 + 40 * number, ("low",) if number < 3 else ()) for number in range(5)]
NAMES = ("noise_0.1", "pitch_+1", "gain_-20")


def execute(
    folder: Path, names: tuple[str, ...] = NAMES, clips: list[SmallClip] = CLIPS
) -> standard_artifacts.Examples:
    examples, deformed = standard_artifacts.Examples(), standard_artifacts.Examples()
    examples.uri, deformed.uri = str(folder / "examples"), str(folder / "deformed")
    examples.split_names = artifact_utils.encode_split_names(["train", "test"])
    if not (folder / "examples").exists():
        write_split(folder / "examples" / "Split-test", clips)
    config = json.dumps({"deformations": names, "clip": asdict(CLIP), "seed": 0})
    DeformedExamplesExecutor().Do({"examples": [examples]}, {"deformed": [deformed]}, {"config": config})
    return deformed


def records(pattern: str) -> list[bytes]:
    folder = Path(pattern).parent
    found = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found += list(read_records(file))
    return found


def test_every_deformation_is_a_split_with_all_clips_in_their_order(tmp_path: Path) -> None:
    deformed = execute(tmp_path)
    assert artifact_utils.decode_split_names(deformed.split_names) == ["noise_0_1", "pitch_1", "gain_-20"]
    clean = records(str(tmp_path / "examples" / "Split-test" / "*"))
    for name in NAMES:
        (pattern,) = deformed_patterns([deformed], name)
        after = records(pattern)
        assert len(after) == len(clean) == 5
        for before, record in zip(clean, after, strict=True):
            was, became = (Example.FromString(one).features.feature for one in (before, record))
            for kept in ("clip_id", "track", "tags"):
                assert was[kept] == became[kept]
            expected = parse_deformation(name).apply(
                decode_waveform(before), CLIP.sample_rate, was["clip_id"].bytes_list.value[0].decode(), 0
            )
            assert np.array_equal(decode_waveform(record), from_pcm(to_pcm(expected)))


def test_log_mel_and_figures_are_those_of_the_deformed_sound(tmp_path: Path) -> None:
    (pattern,) = deformed_patterns([execute(tmp_path, ("gain_-20",))], "gain_-20")
    feature = Example.FromString(records(pattern)[0]).features.feature
    waveform = decode_waveform(records(pattern)[0])
    mel = log_mel(waveform, CLIP)
    assert feature["log_mel"].bytes_list.value[0] == mel.astype("<f2").tobytes()
    expected = health(waveform, mel, 1.0, CLIP)
    assert {name: feature[name].float_list.value[0] for name in HEALTH_FEATURES} == pytest.approx(expected, rel=1e-6)
    assert feature["peak"].float_list.value[0] < 0.05


def test_second_execution_writes_the_same_bytes(tmp_path: Path) -> None:
    execute(tmp_path)
    first = hashes(tmp_path / "deformed")
    execute(tmp_path)
    assert hashes(tmp_path / "deformed") == first


def test_example_that_is_not_deformed_keeps_its_bytes() -> None:
    for further in ({}, {"incomplete": 1.0}):
        record = encode_example({**CLIPS[0].features(), **further})
        assert deformed_example(record, Deformation("gain", 0.0), CLIP, 0) == record


@pytest.mark.parametrize("name", ["gain_-20", "noise_0.4", "stretch_0.5", "stretch_-0.5", "mp3_32"])
def test_short_clip_is_deformed_whole_its_repeats_too(name: str) -> None:
    sound = CLIPS[0].waveform()[: 2 * CLIP.samples // 5]
    stored = from_pcm(to_pcm(fit_clip(sound, CLIP)))
    short = encode_example({**CLIPS[0].features(), "waveform": to_pcm(stored).tobytes(), "seconds": 0.4})
    deformation = parse_deformation(name)
    after = decode_waveform(deformed_example(short, deformation, CLIP, 0))
    clip_id = Example.FromString(short).features.feature["clip_id"].bytes_list.value[0].decode()
    deformed = deformation.apply(stored[: len(sound)], CLIP.sample_rate, clip_id, 0)
    np.testing.assert_array_equal(after, from_pcm(to_pcm(fit_clip(deformed, CLIP))))
    np.testing.assert_array_equal(after[len(sound) : 2 * len(sound)], after[: len(sound)])


def test_split_without_examples_and_impossible_deformations_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty" / "examples" / "Split-test").mkdir(parents=True)
    with pytest.raises(AutotagError, match="no examples to deform"):
        execute(tmp_path / "empty")
    with pytest.raises(BadInputError, match="less than the clips' own 16000 Hz"):
        execute(tmp_path, ("rate_16000",))


def test_cut_file_of_examples_is_named(tmp_path: Path) -> None:
    folder = write_split(tmp_path / "examples" / "Split-test", CLIPS)
    path = folder / "part-0.tfrecord"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(AutotagError, match="part-0.tfrecord, gain_-20: broken TFRecord"):
        execute(tmp_path, ("gain_-20",))


def test_component_is_known_by_its_deformations_clips_and_code() -> None:
    from tfx import types

    channel = types.Channel(type=standard_artifacts.Examples)
    config = json.loads(DeformedExamples(channel, NAMES, CLIP).exec_properties["config"])
    assert config["deformations"] == list(NAMES)
    assert config["clip"] == asdict(CLIP)
    assert len(config["code"]) == 16
