"""The requests that TensorFlow Serving sends itself before it gives a new version to clients.

Without them the first client of a version waits while TensorFlow plans its graph. The place of the file and its records
(PredictionLog in TFRecord) are what TensorFlow Serving documents as SavedModel Warmup. The clips are noise,
not silence: denormal numbers would make the first pass slow.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import soundfile as sf
from google.protobuf.message import Message

from preprocessing.audio.samples import from_pcm
from preprocessing.clip_format import ClipFormat
from preprocessing.constants import PCM_SCALE
from preprocessing.examples import encode_example, write_record
from serving.client.messages import Example, PredictionLog, to_tensor

WARM_UP_NAME: Final = "assets.extra/tf_serving_warmup_requests"
MODEL_NAME: Final = "autotag"


def warm_up_requests(clip: ClipFormat) -> bytes:
    """Return the file: one request of one clip for every signature that a client may ask."""
    noise = np.random.default_rng(0).normal(0, 0.05, clip.samples)
    pcm = np.round(noise.clip(-1, 1 - 1 / PCM_SCALE) * PCM_SCALE).astype("<i2")
    waveform = from_pcm(pcm)
    example = encode_example({"waveform": pcm.tobytes()})
    riff = io.BytesIO()
    sf.write(riff, pcm, clip.sample_rate, format="WAV", subtype="PCM_16")
    logs = [
        _predict("serving_default", "examples", [example]),
        _predict("waveform", "waveform", waveform[np.newaxis]),
        _predict("pcm", "pcm", [pcm.tobytes()]),
        _predict("wav", "wav", [riff.getvalue()]),
        _predict("embedding", "pcm", [pcm.tobytes()]),
        _predict("model_card", "request", [b"card"]),
        _classify(example),
    ]
    file = io.BytesIO()
    for log in logs:
        write_record(file, log.SerializeToString(deterministic=True))
    return file.getvalue()


def _predict(signature: str, name: str, value: npt.NDArray[np.float32] | Sequence[bytes]) -> Message:
    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, signature
    request.inputs[name].CopyFrom(to_tensor(value))
    return log


def _classify(example: bytes) -> Message:
    log = PredictionLog()
    request = log.classify_log.request
    request.model_spec.name, request.model_spec.signature_name = MODEL_NAME, "classify"
    request.input.example_list.examples.append(Example.FromString(example))
    return log
