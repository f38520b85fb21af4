"""How well 'sounds like this' does: neighbours with a common genre, copies found again, and seconds for many songs.

    .venv/bin/python -m benchmarks.similar music music/annotations_final.csv --model musicnn-msd --copies 100
    .venv/bin/python -m benchmarks.similar --made-up 10000 50000

The corpus is a folder with a table in MagnaTagATune's layout, of which some tags are genres (--genres). First the
folder is indexed, timed; then each clip's ten nearest neighbours are looked at: which share of them has a genre in
common with it. Beside the embeddings' cosine stand the same vectors standardised and whitened, the probabilities,
chance (any other clip), and what is usual without a network: mean and deviation over time of 20 MFCCs and of their
first differences, standardised. A second column leaves out clips of the same artist (what stands
before the first ``-`` of a file's name).

``--copies N``: N clips are encoded anew in other formats and with seconds cut off, indexed together with the whole
corpus, and looked for by serving.library.duplicates.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from benchmarks.machine import cpu_name
from datasets.mtat import parse_annotations
from pipeline.console.terminal import ProgressBar, say
from preprocessing.audio.loading import load_audio
from preprocessing.constants import SAMPLE_RATE
from serving.engines.runtimes import AUTO
from serving.library.duplicates import MOST_DIFFERENT, difference, find_duplicates
from serving.library.index_file import IndexFile
from serving.library.indexing import Choices, index_folder
from serving.library.listening import load_model
from serving.library.neighbours import Neighbours, build_graph, embeddings_of, unit
from serving.tagging.sources import LocalModel

NEAREST: Final = 10
COMPONENTS: Final = 40
EXAMPLES: Final = 5
GENRES: Final = "pop/rock,jazz,electronic,international,r&b,country,blues,rap,latin,folk,reggae"
CODINGS: Final[dict[str, tuple[str, float, list[str]]]] = {
    "MP3, 64 kbit/s": ("mp3", 0, ["-b:a", "64k"]),
    "MP3, 128 kbit/s": ("mp3", 0, ["-b:a", "128k"]),
    "Ogg Vorbis, quality 1": ("ogg", 0, ["-c:a", "libvorbis", "-q:a", "1"]),
    "FLAC": ("flac", 0, []),
    "MP3, 128 kbit/s, without the first 3.36 s": ("mp3", 3.36, ["-b:a", "128k"]),
    "MP3, 128 kbit/s, without the first 7.03 s": ("mp3", 7.03, ["-b:a", "128k"]),
}
"""Coding -> suffix, seconds cut off, options of ffmpeg."""
MADE_UP_SIZE: Final = 200
MADE_UP_CENTRES: Final = 500
MADE_UP_ASKED: Final = 100

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Corpus:
    """Clips with their genres, in the order of the index.

    Attributes:
        paths: below the folder.
        genres: bool [clips, genres].
        names: of the genres.
        artists: what stands before the first ``-`` of a name.
    """

    paths: list[str]
    genres: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    artists: npt.NDArray[np.str_]

    @classmethod
    def read(cls, table: Path, paths: Sequence[str], names: Sequence[str]) -> Corpus:
        """Read the genres of the clips in an index."""
        tags = {clip.path: set(clip.tags) for clip in parse_annotations(table.read_bytes(), table.name)}
        genres = np.array([[name in tags.get(path, ()) for name in names] for path in paths])
        return cls(list(paths), genres, tuple(names), np.array([Path(path).name.split("-")[0] for path in paths]))

    def shares(self, similarities: Floats) -> tuple[float, float]:
        """Float [clips, clips] -> share of the ten nearest with a common genre; likewise without the same artist's."""
        known = self.genres.any(axis=1)
        common = (self.genres.astype(int) @ self.genres.T.astype(int)) > 0
        itself = np.eye(len(known), dtype=bool)
        found = []
        for left_out in (itself, self.artists[:, None] == self.artists[None]):
            values = np.where(left_out | ~known[None], -np.inf, similarities)
            near = np.argsort(-values, axis=1, kind="stable")[:, :NEAREST]
            found.append(float(np.take_along_axis(common, near, axis=1)[known].mean()))
        return found[0], found[1]

    def chance(self) -> tuple[float, float]:
        """The same of any other clip."""
        known = np.flatnonzero(self.genres.any(axis=1))
        common = (self.genres[known].astype(int) @ self.genres[known].T.astype(int)) > 0
        other = ~np.eye(len(known), dtype=bool)
        strange = self.artists[known][:, None] != self.artists[known][None]
        means = [(common & mask).sum(axis=1) / mask.sum(axis=1) for mask in (other, strange)]
        return float(means[0].mean()), float(means[1].mean())


def mfcc_statistics(samples: Floats) -> Floats:
    """Mean and deviation of 20 MFCCs and of their first differences: float32 [n] -> float32 [80]."""
    import librosa

    values = librosa.feature.mfcc(y=samples, sr=SAMPLE_RATE, n_mfcc=20)
    both = np.concatenate([values, librosa.feature.delta(values)])
    return np.concatenate([both.mean(axis=1), both.std(axis=1)]).astype(np.float32)


def standardised(rows: Floats) -> Floats:
    """Every column with mean 0 and deviation 1."""
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)


def whitened(rows: Floats, components: int = COMPONENTS) -> Floats:
    """The largest principal components, each with deviation 1."""
    centred = rows - rows.mean(axis=0)
    _, lengths, directions = np.linalg.svd(centred, full_matrices=False)
    kept: Floats = centred @ directions[:components].T / lengths[:components]
    return kept


def cosines(rows: npt.ArrayLike) -> Floats:
    """[n, size] -> float32 [n, n]."""
    made: Floats = unit(rows) @ unit(rows).T
    return made


@contextlib.contextmanager
def no_bar(files: Sequence[Path]) -> Iterator[ProgressBar]:
    """Shows nothing."""
    yield ProgressBar(None, len(files))


def timed_index(folder: Path, index: Path, source: LocalModel) -> None:
    """Bring an index up to date and print what that took."""
    began, cpu = time.perf_counter(), time.process_time()
    summary = index_folder(folder, index, source, Choices(), say, no_bar)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    heard = max(summary.heard, 1)
    print(
        f"{summary.heard} of {summary.files} clips heard in {took:.1f} s, a clip {took / heard:.3f} s and "
        f"{used / heard:.3f} s of CPU; peak memory {peak:.0f} MB; the index has {index.stat().st_size / 1e6:.2f} MB"
    )


def neighbours_table(folder: Path, table: Path, index: Path, genres: Sequence[str]) -> None:
    """Print the shares of neighbours with a common genre, and some examples."""
    with IndexFile.open(index) as file:
        rows = file.select(["path", "embedding", "probabilities"])
    paths = [row[0].decode("utf-8", "surrogateescape") for row in rows]
    vectors, probabilities = (np.stack([np.frombuffer(row[at], "<f4") for row in rows]) for at in (1, 2))
    corpus = Corpus.read(table, paths, genres)
    statistics = np.stack([mfcc_statistics(load_audio((folder / path).read_bytes(), path)) for path in paths])
    methods = {
        "embeddings": cosines(vectors),
        "embeddings, standardised": cosines(standardised(vectors)),
        f"embeddings, whitened, {COMPONENTS} components": cosines(whitened(vectors)),
        "probabilities": cosines(probabilities),
        "MFCC statistics, standardised": cosines(standardised(statistics)),
    }
    print(f"\n{len(paths)} clips, {int(corpus.genres.any(axis=1).sum())} with one of {len(genres)} genres\n")
    print(f"| cosine of | common genre among the nearest {NEAREST} | of other artists |\n|---|---|---|")
    for name, similarities in methods.items():
        print("| {} | {:.3f} | {:.3f} |".format(name, *corpus.shares(similarities)))
    print("| chance: any other clip | {:.3f} | {:.3f} |".format(*corpus.chance()))
    examples(corpus, methods["embeddings"])


def examples(corpus: Corpus, similarities: Floats) -> None:
    """Print the five nearest of some clips, evenly spread over those with a genre, with their genres."""
    known = np.flatnonzero(corpus.genres.any(axis=1))

    def described(row: int) -> str:
        genres = ", ".join(name for name, there in zip(corpus.names, corpus.genres[row], strict=True) if there)
        return f"{Path(corpus.paths[row]).stem} ({genres or 'no genre'})"

    for row in known[np.linspace(0, len(known) - 1, EXAMPLES + 2).astype(int)[1:-1]]:
        print(f"\n{described(row)}")
        near = [at for at in np.argsort(-similarities[row], kind="stable") if at != row][:5]
        for at in near:
            common = "common" if (corpus.genres[row] & corpus.genres[at]).any() else "other "
            print(f"  {similarities[row, at]:.3f}  {common}  {described(at)}")


def copies_table(folder: Path, index: Path, count: int, source: LocalModel) -> None:
    """Print how many of the copies of some clips are found again, and what else is taken for a copy."""
    with IndexFile.open(index) as file:
        rows = file.select(["path", "seconds", "fingerprint"])
        vectors = embeddings_of(file)
    paths = [row[0].decode("utf-8", "surrogateescape") for row in rows]
    prints, seconds = [np.frombuffer(row[2], "<u4") for row in rows], [row[1] for row in rows]
    chosen = np.linspace(0, len(paths) - 1, count).astype(int)
    with tempfile.TemporaryDirectory() as scratch:
        made, of = Path(scratch) / "copies", {}
        made.mkdir()
        for row in chosen:
            for number, (suffix, cut, options) in enumerate(CODINGS.values()):
                name = f"{row}-{number}.{suffix}"
                call = ["ffmpeg", "-v", "error", "-ss", str(cut), "-i", str(folder / paths[row]), *options]
                subprocess.run([*call, str(made / name)], check=True)
                of[name] = (int(row), number)
        index_folder(made, Path(scratch) / "copies.sqlite", source, Choices(), say, no_bar)
        with IndexFile.open(Path(scratch) / "copies.sqlite") as file:
            copies = file.select(["path", "seconds", "fingerprint"])
            vectors = np.concatenate([vectors, embeddings_of(file)])
    names = [row[0].decode() for row in copies]
    prints += [np.frombuffer(row[2], "<u4") for row in copies]
    everything = np.array([*seconds, *(row[1] for row in copies)], np.float64)
    began = time.perf_counter()
    groups = find_duplicates(Neighbours(vectors), prints, everything)
    took = time.perf_counter() - began
    owner = [*range(len(paths)), *(of[name][0] for name in names)]
    group_of = {row: number for number, group in enumerate(groups) for row in group}
    print(f"\n{len(owner)} files, of which {len(names)} are copies of {count} clips; {took:.1f} s\n")
    print("| copy | least cosine | bits that differ, median and most | found with its clip |\n|---|---|---|---|")
    for number, coding in enumerate(CODINGS):
        own = [(len(paths) + at, of[name][0]) for at, name in enumerate(names) if of[name][1] == number]
        apart = [difference(prints[copy], prints[clip]) for copy, clip in own]
        found = sum(group_of.get(copy, -1) == group_of.get(clip, -2) for copy, clip in own)
        least = min(float(vectors[copy] @ vectors[clip]) for copy, clip in own)
        print(f"| {coding} | {least:.3f} | {np.median(apart):.3f}, {max(apart):.3f} | {found} of {len(own)} |")
    others = {
        tuple(sorted({owner[row] for row in group})) for group in groups if len({owner[row] for row in group}) > 1
    }
    print(f"\ngroups with different clips of the corpus: {len(others)}")
    for group in sorted(others):
        apart = difference(prints[group[0]], prints[group[1]])
        print(f"  {apart:.3f}  " + " = ".join(Path(paths[row]).stem for row in group))
    chance = np.random.default_rng(0).integers(0, len(paths), (2_000, 2))
    strange = sorted(difference(prints[first], prints[second]) for first, second in chance if first != second)
    print(
        f"bits that differ in 2,000 random pairs of clips: least {strange[0]:.3f}, median {np.median(strange):.3f}; "
        f"limit {MOST_DIFFERENT}"
    )


def made_up_table(counts: Sequence[int]) -> None:
    """Print seconds of exact and approximate answers among made-up vectors in clusters."""
    print(f"\n| vectors of {MADE_UP_SIZE} | exact, ms | graph, ms | recall at {NEAREST} | graph built, s | graph, MB |")
    print("|---|---|---|---|---|---|")
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(MADE_UP_CENTRES, MADE_UP_SIZE))
    for count in counts:
        spread = draw.normal(size=(count, MADE_UP_SIZE))
        vectors = unit(centres[draw.integers(0, MADE_UP_CENTRES, count)] + spread)
        asked = vectors[draw.integers(0, count, MADE_UP_ASKED)]
        began = time.perf_counter()
        graph = build_graph(vectors)
        built = time.perf_counter() - began
        ways = (Neighbours(vectors), Neighbours(vectors, graph))
        answers, took = [], []
        for way in ways:
            began = time.perf_counter()
            answers.append([set(way.nearest(vector, NEAREST).places.tolist()) for vector in asked])
            took.append(1000 * (time.perf_counter() - began) / len(asked))
        recall = np.mean([len(exact & near) / NEAREST for exact, near in zip(*answers, strict=True)])
        print(f"| {count:,} | {took[0]:.2f} | {took[1]:.2f} | {recall:.3f} | {built:.1f} | {len(graph) / 1e6:.1f} |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="the corpus")
    parser.add_argument("table", type=Path, nargs="?", help="its annotations")
    parser.add_argument("--model", default="musicnn-msd", help="default: %(default)s")
    parser.add_argument("--engine", default=AUTO)
    parser.add_argument("--index", type=Path, help="kept there; what is in it is not heard again")
    parser.add_argument("--genres", default=GENRES, help="tags that are genres, with commas; default: %(default)s")
    parser.add_argument("--copies", type=int, default=0, metavar="N", help="look for copies of N clips")
    parser.add_argument("--made-up", type=int, nargs="*", default=[], metavar="N", help="numbers of made-up vectors")
    options = parser.parse_args()
    print(cpu_name())
    if options.folder is not None:
        if options.table is None:
            parser.error("the corpus needs its annotations")
        source = load_model(options.model, options.engine, say)
        with tempfile.TemporaryDirectory() as scratch:
            index = options.index or Path(scratch) / "index.sqlite"
            timed_index(options.folder, index, source)
            neighbours_table(options.folder, options.table, index, options.genres.split(","))
            if options.copies:
                copies_table(options.folder, index, options.copies, source)
    if options.made_up:
        made_up_table(options.made_up)


if __name__ == "__main__":
    main()
