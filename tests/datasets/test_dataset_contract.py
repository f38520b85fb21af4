"""Every data set of the registry, in its publisher's formats: what a reader yields, what it refuses, that it trains."""

from __future__ import annotations

import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from command_runner import invoke
from hypothesis import given, settings
from hypothesis import strategies as st
from published_layouts import SAMPLES, Edit, Sample

from datasets import fma, gtzan, jamendo, msd
from datasets.dataset import Source
from datasets.reading import find_audio, load_tags, read_clips
from datasets.registry import DATASETS, find_dataset
from preprocessing.clip_format import ClipFormat
from preprocessing.clips import AnnotatedClip
from preprocessing.errors import BadInputError
from preprocessing.examples import Example, read_records
from preprocessing.settings import PreprocessSettings
from preprocessing.splits import Draw

every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=[sample.name for sample in SAMPLES])
SECOND = ClipFormat(16_000, 16_000)


def source_of(sample: Sample, folder: Path) -> Source:
    return find_dataset(sample.dataset).layout.source(str(folder), sample.subset)


def read(sample: Sample, folder: Path) -> list[AnnotatedClip]:
    return find_dataset(sample.dataset).read(source_of(sample, folder))


def settings_of(sample: Sample, **values: object) -> PreprocessSettings:
    split = "published" if sample.counts else "track"
    return PreprocessSettings(
        dataset=sample.dataset, subset=sample.subset, split=split, **{"ratio": (4, 2, 2), "seed": 1, **values}
    )


def test_every_data_set_and_subset_has_a_sample() -> None:
    there = {(dataset.name, subset) for dataset in DATASETS.values() for subset in dataset.subsets or ("",)}
    assert {(sample.dataset, sample.subset) for sample in SAMPLES} == there


@every_sample
def test_every_clip_says_what_it_is(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path)
    clips = read(sample, tmp_path)
    assert len({clip.clip_id for clip in clips}) == len(clips) >= 10
    for clip in clips:
        parts = PurePosixPath(clip.path).parts
        assert not clip.path.startswith("/")
        assert parts
        assert ".." not in parts
        assert clip.track
        assert bool(clip.artist) == sample.artists
        assert clip.tags
        assert len(set(clip.tags)) == len(clip.tags)
        assert (clip.split in ("train", "valid", "test")) if sample.counts else clip.split is None
    assert {tag for clip in clips for tag in clip.tags} == sample.tags


@every_sample
def test_counts_are_those_of_the_published_split(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path)
    if sample.counts:
        assert Counter(clip.split for clip in read(sample, tmp_path)) == sample.counts


@every_sample
def test_two_reads_are_the_same(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path)
    assert read(sample, tmp_path) == read(sample, tmp_path)


@every_sample
def test_every_rule_places_every_clip_or_says_what_is_missing(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path)
    dataset = find_dataset(sample.dataset)
    for clip in read(sample, tmp_path):
        for name, rule in dataset.rules.items():
            if name == "artist" and not sample.artists:
                with pytest.raises(BadInputError, match="split 'artist' needs each clip's artist"):
                    rule.split_of(clip, Draw())
            else:
                assert rule.split_of(clip, Draw()) in ("train", "valid", "test")


@every_sample
def test_no_track_is_on_two_sides_and_no_artist_where_the_publisher_says_so(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path)
    dataset = find_dataset(sample.dataset)
    rule = dataset.rules["published" if sample.counts else "track"]
    sides: dict[tuple[str, str], set[str]] = defaultdict(set)
    for clip in read(sample, tmp_path):
        side = rule.split_of(clip, Draw())
        sides["track", clip.track].add(side)
        if dataset.artists_apart and sample.artists:
            sides["artist", clip.artist].add(side)
    assert all(len(found) == 1 for found in sides.values())


@every_sample
def test_audio_of_every_clip_is_found_under_the_name_that_it_has(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path)
    source = source_of(sample, tmp_path)
    for clip in read_clips(source.audio_dir, source.annotations, settings_of(sample)):
        assert (Path(source.audio_dir) / clip.path).is_file()


FAULTS = [(sample, *fault) for sample in SAMPLES for fault in sample.faults]


@pytest.mark.parametrize(
    ("sample", "file", "edit", "message"), FAULTS, ids=[f"{fault[0].name}: {fault[3][-40:]}" for fault in FAULTS]
)
def test_malformed_row_is_refused_with_file_and_line(
    sample: Sample, file: str, edit: Edit, message: str, tmp_path: Path
) -> None:
    sample.write(tmp_path)
    path = tmp_path / file
    path.write_bytes(edit(path.read_bytes()))
    with pytest.raises(BadInputError) as caught:
        read(sample, tmp_path)
    assert message in str(caught.value)


@every_sample
def test_missing_annotations_are_said_with_their_path(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=rf"annotations {tmp_path}.*: No such file"):
        read(sample, tmp_path / "none")


@every_sample
def test_sample_becomes_tfrecords(sample: Sample, tmp_path: Path) -> None:
    sample.write(tmp_path)
    source = source_of(sample, tmp_path)
    chosen = settings_of(sample, n_tags=2, clip=SECOND, excerpts="even", excerpt_count=2)
    clips = len(read_clips(source.audio_dir, source.annotations, chosen))
    out = tmp_path / "out"
    done = invoke(
        "preprocess",
        *(source.audio_dir, source.annotations, out, "--dataset", sample.dataset, "--subset", sample.subset),
        *("--split", chosen.split, "--ratio", "4:2:2", "--seed", 1, "--tags", 2, "--clip-seconds", 1),
        *("--excerpts", "even", "--excerpt-count", 2, "--workers", 1),
        catch_exceptions=False,
    )
    assert done.exit_code == 0, done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["clips"], summary["examples"], summary["rejected"]) == (2 * clips, 2 * clips, 0)
    assert PreprocessSettings.from_json(summary["settings"]) == chosen
    if sample.counts:
        counted = {split: counts["examples"] for split, counts in summary["splits"].items()}
        assert counted == {split: 2 * count for split, count in sample.counts.items()}
    found = set()
    for path in sorted(out.glob("*.tfrecord")):
        with open(path, "rb") as file:
            for record in read_records(file):
                features = Example.FromString(record).features.feature
                assert len(features["waveform"].bytes_list.value[0]) == 2 * SECOND.samples
                found |= {tag.decode() for tag in features["tags"].bytes_list.value}
    assert found == sample.tags


def test_published_lists_of_tags_are_those_of_the_subset() -> None:
    assert len(load_tags("default", "jamendo")) == 50
    assert load_tags("default", "msd", "cals")[5] == "hip-hop"
    assert load_tags("default", "msd")[33] == "Hip-Hop"
    with pytest.raises(BadInputError, match="no list is published for the subset 'genre' of the data set 'jamendo'"):
        load_tags("default", "jamendo", "genre")


@pytest.mark.parametrize(
    ("dataset", "subset", "message"),
    [
        ("jamendo", "top10", "subset 'top10' of the data set 'jamendo': expected one of top50tags, autotagging"),
        ("mtat", "small", "subset 'small' of the data set 'mtat': it has none"),
    ],
)
def test_subset_that_is_not_there_is_refused(dataset: str, subset: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_clips("x", "y", PreprocessSettings(dataset=dataset, subset=subset))


def test_table_of_jamendo_without_splits_is_divided_by_artist(tmp_path: Path) -> None:
    (sample,) = (one for one in SAMPLES if one.name == "jamendo-genre")
    sample.write(tmp_path)
    single = tmp_path / "data" / "splits" / "split-0" / "autotagging_genre-train.tsv"
    clips = jamendo.read(Source("", str(single), subset="genre"))
    assert {clip.split for clip in clips} == {None}
    sides = {find_dataset("jamendo").rules["artist"].split_of(clip, Draw(2, (1, 1, 1))) for clip in clips}
    assert sides <= {"train", "valid", "test"}


def test_lists_of_msd_decide_the_parts_and_the_index_where_audio_lies(tmp_path: Path) -> None:
    (sample,) = (one for one in SAMPLES if one.name == "msd-conventional")
    sample.write(tmp_path)
    folder = tmp_path / "conventional"
    songs = [clip.clip_id for clip in read(sample, tmp_path)]
    for name, part in {"train": songs[:3], "validation": songs[3:5], "test": songs[5:6]}.items():
        (folder / f"{name}.txt").write_text("\n".join(part))
    (folder / "index_msd.tsv").write_text("".join(f"{song}\tmine/{at}.flac\n" for at, song in enumerate(songs[:6])))
    clips = read(sample, tmp_path)
    assert [clip.split for clip in clips] == ["train"] * 3 + ["valid"] * 2 + ["test"]
    assert [clip.path for clip in clips] == [f"mine/{at}.flac" for at in range(6)]
    (folder / "test.txt").write_text(songs[7])
    with pytest.raises(BadInputError, match=rf"test.txt line 1: {songs[7]} is not in index_msd.tsv"):
        read(sample, tmp_path)
    (folder / "index_msd.tsv").unlink()
    (folder / "test.txt").write_text("TRZZZZZ128F0000000")
    with pytest.raises(BadInputError, match="test.txt line 1: TRZZZZZ128F0000000 is in none of train_gt_msd.tsv"):
        read(sample, tmp_path)


@pytest.mark.parametrize(
    ("valence", "mood"),
    [(0.0, "sad"), (0.3333, "sad"), (1 / 3, "neutral"), (0.6666, "neutral"), (2 / 3, "happy"), (1.0, "happy")],
)
def test_mood_is_the_third_of_valence(valence: float, mood: str) -> None:
    assert fma.mood_of(valence) == mood


def test_first_clip_that_is_there_decides_the_suffix(tmp_path: Path) -> None:
    clips = [AnnotatedClip(str(at), f"0/{at}.mp3", (), str(at)) for at in range(3)]
    assert find_audio(clips, str(tmp_path), (".mp3", ".low.mp3")) == clips
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "1.low.mp3").touch()
    assert [clip.path for clip in find_audio(clips, str(tmp_path), (".mp3", ".low.mp3"))] == [
        f"0/{at}.low.mp3" for at in range(3)
    ]
    (tmp_path / "0" / "0.mp3").touch()
    assert find_audio(clips, str(tmp_path), (".mp3", ".low.mp3")) == clips


PARSERS: dict[str, Callable[[bytes], object]] = {
    "jamendo": lambda data: jamendo.parse_table(data, "t", "train", {}),
    "gtzan": lambda data: gtzan.parse_list(data, "t", "train", {}),
    "msd vectors": lambda data: list(msd.parse_vectors(data, "t", msd.TOP_50)),
    "msd ids": lambda data: list(msd.parse_ids(data, "t")),
    "msd array": lambda data: msd.load_array(data, "t"),
    "fma genres": lambda data: fma.parse_genres(data, "t"),
    "fma valence": lambda data: fma.parse_valence(data, "t"),
    "fma tracks": lambda data: fma.parse_tracks(data, "t", "large", {1: "x"}, {}),
}


@pytest.mark.parametrize("name", PARSERS)
def test_any_bytes_are_clips_or_bad_input(name: str, tmp_path: Path) -> None:
    headers = {
        "jamendo": "\t".join(jamendo.COLUMNS).encode() + b"\r\n",
        "fma genres": b"genre_id,title\n",
        "fma valence": b",echonest\n,audio_features\n,valence\n",
        "fma tracks": b",set,set,track,track,artist\n,split,subset,genre_top,genres_all,id\n",
        "msd array": b"\x93NUMPY\x01\x00",
        "msd vectors": b"TRAAAAA128F0000000\t[",
    }

    @settings(max_examples=60, deadline=None)
    @given(st.one_of(st.binary(max_size=200), st.text('1[]{},-.track_\t"\n\r\0ü', max_size=120).map(str.encode)))
    def check(data: bytes) -> None:
        for content in (data, headers.get(name, b"") + data):
            with contextlib.suppress(BadInputError):
                PARSERS[name](content)

    check()
