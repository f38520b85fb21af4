"""Examples whose sound is deformed, as Beam steps: what a network is tested with besides the clean test split.

A file of examples and a deformation are the element: a worker reads record after record and writes as it reads, so that
memory is that of one clip. Files keep their names and their order, and another attempt writes the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam

from preprocessing import storage
from preprocessing.audio.samples import fit_clip, from_pcm, to_pcm
from preprocessing.clip_format import ClipFormat
from preprocessing.deformations import Deformation
from preprocessing.errors import AutotagError
from preprocessing.examples import Example, decode_waveform, read_records, write_record
from preprocessing.features import health, log_mel


@dataclass(frozen=True)
class Task:
    """A file that is to be written.

    Attributes:
        source: TFRecord file of examples.
        target: where the deformed ones go.
        deformation: which.
    """

    source: str
    target: str
    deformation: Deformation


def deformed_example(record: bytes, deformation: Deformation, clip: ClipFormat, seed: int) -> bytes:
    """Deform the sound of a serialised tf.Example; its log-mel and its figures are computed anew, all else is kept.

    Of a short clip the sound that its file has is deformed, and then repeated as preprocessing repeats it.

    Args:
        record: as preprocessing.examples.clip_example makes it.
        deformation: which.
        clip: length and rate.
        seed: of what is random.
    """
    example = Example.FromString(record)
    feature = example.features.feature
    clip_id = feature["clip_id"].bytes_list.value[0]
    seconds = feature["seconds"].float_list.value[0]
    sound = decode_waveform(record)[: max(1, round(seconds * clip.sample_rate))]
    name = clip_id.decode(errors="surrogateescape")
    pcm = to_pcm(fit_clip(deformation.apply(sound, clip.sample_rate, name, seed), clip))
    waveform = from_pcm(pcm)
    mel = log_mel(waveform, clip)
    feature["waveform"].bytes_list.value[:] = [pcm.tobytes()]
    feature["log_mel"].bytes_list.value[:] = [mel.astype("<f2").tobytes()]
    for figure, value in health(waveform, mel, seconds, clip).items():
        feature[figure].float_list.value[:] = [value]
    deformed: bytes = example.SerializeToString(deterministic=True)
    return deformed


class WriteDeformed(beam.DoFn):  # type: ignore[misc]
    """Writes a file of deformed examples; yields the number of them."""

    def __init__(self, clip: ClipFormat, seed: int) -> None:
        self._clip = clip
        self._seed = seed

    def process(self, element: Task) -> Iterator[int]:
        """Read, deform, write.

        Raises:
            AutotagError: the file cannot be read or written.
        """
        count = 0
        try:
            with open(element.source, "rb") as source, storage.open_whole(element.target) as target:
                for record in read_records(source):
                    write_record(target, deformed_example(record, element.deformation, self._clip, self._seed))
                    count += 1
        except (OSError, ValueError) as error:
            raise AutotagError(f"{element.source}, {element.deformation.name}: {error}") from error
        beam.metrics.Metrics.counter("deformed", element.deformation.name).inc(count)
        yield count


def tasks(source: str, target: str, deformations: Sequence[Deformation]) -> list[Task]:
    """List what is to be written.

    Args:
        source: folder of a split's TFRecord files.
        target: folder below which each deformation has the folder ``Split-NAME``.
        deformations: which.

    Raises:
        AutotagError: there are no such files.
    """
    names = sorted(name for name in os.listdir(source) if ".tfrecord" in name and not name.startswith("."))
    if not names:
        raise AutotagError(f"{source}: there are no examples to deform")
    return [
        Task(os.path.join(source, name), os.path.join(target, f"Split-{deformation.split}", name), deformation)
        for deformation in deformations
        for name in names
    ]


def add_deformations(pipeline: beam.Pipeline, to_do: Sequence[Task], clip: ClipFormat, seed: int) -> beam.PCollection:
    """Add the steps that write deformed examples to a Beam pipeline; returns the number of examples of each file."""
    return (
        pipeline
        | "Files" >> beam.Create(list(to_do), reshuffle=False)
        | "SpreadFiles" >> beam.Reshuffle()
        | "WriteDeformed" >> beam.ParDo(WriteDeformed(clip, seed))
    )
