"""Examples of very short clips in three splits, and what Transform learns of them: without a pipeline around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from components.labels import HeadSettings
from preprocessing.audio.samples import from_pcm, to_pcm
from preprocessing.clip_format import ClipFormat
from preprocessing.examples import encode_example, write_record
from preprocessing.features import health, log_mel

CLIP = ClipFormat(sample_rate=16_000, samples=16_000)


@dataclass(frozen=True)
class SmallClip:
    """One clip.

    Attributes:
        clip_id: its id; the two clips of ``7a`` and ``7b`` are of one track.
        hz: of its tone.
        tags: that it has.
    """

    clip_id: str
    hz: float
    tags: tuple[str, ...]

    @property
    def track(self) -> str:
        return self.clip_id.rstrip("ab")

    def waveform(self) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Float32 [samples], as an example keeps it."""
        time = np.arange(CLIP.samples) / CLIP.sample_rate
        noise = np.random.default_rng(round(self.hz)).normal(size=CLIP.samples)
        tone = np.sin(2 * np.pi * self.hz * time) * (0.2 + 0.1 * np.sin(self.hz))
        return from_pcm(to_pcm((tone + 0.01 * noise).astype(np.float32)))

    def features(self) -> dict[str, Any]:
        """What its example holds."""
        samples = self.waveform()
        mel = log_mel(samples, CLIP)
        return {
            "clip_id": self.clip_id.encode(),
            "track": self.track.encode(),
            "waveform": to_pcm(samples).tobytes(),
            "log_mel": mel.astype("<f2").tobytes(),
            "tags": [tag.encode() for tag in self.tags],
            **health(samples, mel, CLIP.seconds, CLIP),
        }


def write_split(folder: Path, clips: Sequence[SmallClip]) -> Path:
    """Write a split's examples to two shards below ``folder``, and return it."""
    folder.mkdir(parents=True)
    for shard in range(2):
        with (folder / f"part-{shard}.tfrecord").open("wb") as file:
            for clip in clips[shard::2]:
                write_record(file, encode_example(clip.features()))
    return folder


def analyse(folder: Path, heads: Sequence[HeadSettings], splits: Mapping[str, Sequence[SmallClip]]) -> dict[str, Any]:
    """Run Transform's analysis on ``train``, leave the graph in ``folder``, and transform every split.

    Returns:
        split -> what each of its clips became, by clip_id: name -> array.
    """
    import apache_beam as beam
    import tensorflow_transform as tft
    import tensorflow_transform.beam as tft_beam
    from google.protobuf import text_format
    from tensorflow_metadata.proto.v0 import schema_pb2
    from tensorflow_transform.tf_metadata.schema_utils import schema_as_feature_spec
    from tfx_bsl.public import tfxio

    from components.transform import preprocessing_fn

    schema = text_format.Parse((resources.files("components") / "schema.pbtxt").read_text(), schema_pb2.Schema())
    config = {"heads": [head.to_json() for head in heads], "clip": asdict(CLIP)}
    raw = tfxio.TFExampleBeamRecord(physical_format="inmem", schema=schema)
    with beam.Pipeline() as pipeline, tft_beam.Context(str(folder / "scratch")):
        examples = [encode_example(clip.features()) for clip in splits["train"]]
        batches = pipeline | beam.Create(examples) | raw.BeamSource()
        transform_fn = (batches, raw.TensorAdapterConfig()) | tft_beam.AnalyzeDataset(
            lambda inputs: preprocessing_fn(inputs, config)
        )
        _ = transform_fn | tft_beam.WriteTransformFn(str(folder))
    output, spec = tft.TFTransformOutput(str(folder)), schema_as_feature_spec(schema).feature_spec
    return {split: transformed(output, spec, clips) for split, clips in splits.items()}


def transformed(output: Any, spec: Any, clips: Sequence[SmallClip]) -> dict[str, dict[str, Any]]:
    """Apply a transform graph to clips; clip_id -> name -> array."""
    import tensorflow as tf

    examples = [encode_example(clip.features()) for clip in clips]
    features = tf.io.parse_example(examples, spec)
    outputs = {name: value.numpy() for name, value in output.transform_features_layer()(features).items()}
    return {clip.clip_id: {name: value[row] for name, value in outputs.items()} for row, clip in enumerate(clips)}
