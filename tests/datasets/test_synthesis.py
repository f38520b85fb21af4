"""The synthetic corpus: MagnaTagATune's layout, the same bytes for the same seed, tags that can be heard."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from datasets.mtat import ALL_TAGS, TOP_50, parse_annotations
from datasets.synthesis import corpus, drums
from datasets.synthesis.corpus import CorpusSummary, make_corpus, render_track
from datasets.synthesis.listeners import Heard, deserved_tags
from datasets.synthesis.plan import plan_corpus
from datasets.synthesis.render import SOURCES, Studio
from datasets.synthesis.score import ROLES
from datasets.synthesis.styles import SPANS, STYLES, Part
from datasets.synthesis.tones import Signal, new_player
from pipeline.commands.make_corpus import command
from preprocessing.constants import CLIP_SAMPLES, SAMPLE_RATE
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.tags import most_frequent_tags

CLIPS = 6
SEED = 3
PATH = re.compile(r"[0-9a-f]/[a-z0-9_]+-[a-z0-9_]+-\d\d-[a-z0-9_]+-\d+-\d+\.mp3")
PITCHED = sorted(set(SPANS) - {"bell", "bubbles", "siren"})


def checksums(out: Path) -> dict[str, str]:
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def play(instrument: str, midi: float, seconds: float = 1.0) -> Signal:
    return SOURCES[instrument](midi, seconds, 0, new_player(np.random.default_rng(1)))


def pitch_of(sound: Signal) -> float:
    """Hz, by the highest peak of the autocorrelation (in steps of an eighth of a sample) after the first dip."""
    spectrum = np.abs(np.fft.rfft(sound[1600:9600].astype(np.float64), 1 << 15)) ** 2
    correlation = np.fft.irfft(spectrum, 1 << 18)[: 8 * 400]
    start = int(np.argmax(correlation < 0.3 * correlation[0]))
    return 8 * SAMPLE_RATE / (start + int(np.argmax(correlation[start:])))


def centroid(sound: Signal) -> float:
    """Hz, centre of gravity of the spectrum."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float(np.sum(power * np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)) / np.sum(power))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> CorpusSummary:
    return make_corpus(tmp_path_factory.mktemp("corpora") / "corpus", CLIPS, SEED, jobs=2)


def test_paths_follow_magnatagatune(made: CorpusSummary) -> None:
    paths = [str(path.relative_to(made.out)) for path in made.out.rglob("*.mp3")]
    assert len(paths) == CLIPS
    assert all(PATH.fullmatch(path) for path in paths)


def test_annotations_parse_and_agree_with_clip_info_and_files(made: CorpusSummary) -> None:
    clips = parse_annotations(made.annotations.read_bytes(), made.annotations.name)
    info = read_table(made.clip_info)
    assert [(clip.clip_id, clip.path) for clip in clips] == [(row["clip_id"], row["mp3_path"]) for row in info]
    assert {clip.path for clip in clips} == {str(path.relative_to(made.out)) for path in made.out.rglob("*.mp3")}
    assert Counter(tag for clip in clips for tag in clip.tags) == made.tag_counts
    for row in info:
        assert row["mp3_path"].endswith(f"-{row['segmentStart']}-{row['segmentEnd']}.mp3")
        assert int(row["segmentEnd"]) - int(row["segmentStart"]) == 29


def test_every_cell_is_quoted_and_the_columns_are_magnatagatunes(made: CorpusSummary) -> None:
    header, *rows = made.annotations.read_text(encoding="utf-8").splitlines()
    assert header == "\t".join(f'"{name}"' for name in ("clip_id", *ALL_TAGS, "mp3_path"))
    assert len(ALL_TAGS) == 188
    assert all(re.fullmatch(r'"\d+"(\t"[01]"){188}\t"[^"]+"', row) for row in rows)


def test_clips_are_mp3_of_16_khz_mono_32_kbit_and_29_seconds(made: CorpusSummary) -> None:
    for path in made.out.rglob("*.mp3"):
        info = soundfile.info(path)
        assert (info.format, info.samplerate, info.channels) == ("MP3", SAMPLE_RATE, 1)
        assert CLIP_SAMPLES <= info.frames < CLIP_SAMPLES + 2000
        assert path.stat().st_size * 8 / info.duration == pytest.approx(32_000, rel=0.01)


def test_same_seed_gives_same_bytes_whatever_the_number_of_jobs(made: CorpusSummary, tmp_path: Path) -> None:
    make_corpus(tmp_path, CLIPS, SEED, jobs=1)
    assert checksums(tmp_path) == checksums(made.out)


def test_other_seed_gives_other_sound(made: CorpusSummary, tmp_path: Path) -> None:
    make_corpus(tmp_path, 1, SEED + 1, jobs=1)
    [other] = tmp_path.rglob("*.mp3")
    assert checksums(tmp_path)[str(other.relative_to(tmp_path))] not in checksums(made.out).values()


def test_clip_rendered_alone_is_the_clip_rendered_with_its_track(made: CorpusSummary, tmp_path: Path) -> None:
    clip = next(clip for clip in plan_corpus(CLIPS, SEED) if clip.segment == 2)
    (tmp_path / clip.track.folder).mkdir()
    render_track(tmp_path, [clip], SEED)
    assert (tmp_path / clip.path).read_bytes() == (made.out / clip.path).read_bytes()


def test_second_call_writes_nothing(made: CorpusSummary) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.out.rglob("*")}
    again = make_corpus(made.out, CLIPS, SEED)
    assert again.written == 0
    assert {path: path.stat().st_mtime_ns for path in made.out.rglob("*")} == before


def test_progress_counts_every_clip(tmp_path: Path) -> None:
    counts: list[int] = []
    make_corpus(tmp_path, 4, SEED, jobs=1, on_clip=counts.append)
    assert counts == [3, 4]


@pytest.mark.parametrize(("clips", "seed", "jobs"), [(0, 7, 1), (5, -1, 1), (5, 7, 0)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, clips: int, seed: int, jobs: int) -> None:
    with pytest.raises(BadInputError, match="expected"):
        make_corpus(tmp_path / "corpus", clips, seed, jobs)


def test_folder_with_other_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(BadInputError, match="not empty"):
        make_corpus(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_corpus_of_another_seed_is_refused(made: CorpusSummary) -> None:
    with pytest.raises(BadInputError, match="'seed': 3"):
        make_corpus(made.out, CLIPS, SEED + 1)


def test_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "corpus").write_text("")
    with pytest.raises(BadInputError, match="cannot be used"):
        make_corpus(tmp_path / "corpus", 1)


def test_full_disk_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(samples: Signal) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(corpus, "encode_mp3", full)
    with pytest.raises(AutotagError, match="No space left on device; what was written is kept"):
        make_corpus(tmp_path / "corpus", 1, jobs=1)


def test_command_says_where_the_corpus_lies(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "demo"), "--clips", "1", "--jobs", "1"])
    assert result.exit_code == 0
    assert f"written: {tmp_path / 'demo'}" in result.stdout


@pytest.mark.parametrize("seed", [7, 8, 9])
@pytest.mark.parametrize("clips", [40, 200])
def test_the_fifty_tags_are_the_most_frequent_and_none_is_everywhere(clips: int, seed: int) -> None:
    plan = plan_corpus(clips, seed)
    counts = Counter(tag for clip in plan for tag in clip.tags)
    assert min(counts[tag] for tag in TOP_50) >= 0.03 * clips
    assert max(counts.values()) <= 0.35 * clips
    assert max(counts[tag] for tag in ALL_TAGS if tag not in TOP_50) < min(counts[tag] for tag in TOP_50)


def test_fifty_tags_of_the_plan_are_those_that_preprocessing_chooses(tmp_path: Path) -> None:
    table = corpus.annotations_table(plan_corpus(200, 7)).encode()
    assert set(most_frequent_tags(parse_annotations(table, "plan"), 50)) == set(TOP_50)


def test_some_clips_carry_no_tag_and_no_clip_comes_twice() -> None:
    plan = plan_corpus(200, 7)
    assert 0 < sum(not clip.tags for clip in plan) < 20
    assert len({clip.path for clip in plan}) == len({clip.clip_id for clip in plan}) == 200


def test_artists_have_several_tracks_and_lie_in_one_folder() -> None:
    plan = plan_corpus(200, 7)
    folders: dict[str, set[str]] = {}
    tracks: dict[str, set[int]] = {}
    for clip in plan:
        folders.setdefault(clip.track.artist, set()).add(clip.track.folder)
        tracks.setdefault(clip.track.artist, set()).add(clip.track.index)
    assert all(len(theirs) == 1 for theirs in folders.values())
    assert sum(len(theirs) > 1 for theirs in tracks.values()) > len(tracks) / 2
    assert {clip.track.folder for clip in plan} == set("0123456789abcdef")


def test_styles_name_only_what_can_be_played_and_tagged() -> None:
    for style in STYLES:
        assert set(style.genres) <= set(ALL_TAGS), style.name
        for part in style.parts:
            assert part.instrument in SOURCES, style.name
            assert part.role in ROLES, style.name


def test_tags_come_from_what_is_played() -> None:
    man, band = Part("male", "song"), Part("acoustic_kit", "rock_beat")
    sung = deserved_tags(Heard((man, band), ("rock",), tempo=150.0, level=-11.0))
    assert {"male", "vocal", "drums", "rock", "fast", "loud"} <= set(sung)
    assert not {"female", "no vocals", "slow", "quiet", "solo"} & set(sung)
    unsung = deserved_tags(Heard((band,), (), tempo=60.0, level=-30.0))
    assert {"no vocals", "no voice", "slow", "quiet", "soft", "solo"} <= set(unsung)
    assert not {"vocal", "fast", "loud"} & set(unsung)


@pytest.mark.parametrize("instrument", [name for name in PITCHED if name != "fiddle"])  # a double stop
def test_instrument_sounds_its_pitch(instrument: str) -> None:
    low, high = SPANS[instrument]
    midi = (low + high) // 2
    expected = 440.0 * 2 ** ((midi - 69) / 12)
    assert pitch_of(play(instrument, midi)) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("instrument", PITCHED)
def test_note_is_finite_and_heard(instrument: str) -> None:
    for midi in SPANS[instrument]:
        note = play(instrument, midi, 0.25)
        assert note.dtype == np.float32
        assert np.isfinite(note).all()
        assert np.sqrt(np.mean(note**2)) > 1e-3


def test_man_sings_lower_than_woman() -> None:
    man, woman = (pitch_of(play(voice, SPANS[voice][1] - 3)) for voice in ("male", "female"))
    assert man < 0.6 * woman


def test_timbres_differ_as_they_should() -> None:
    flute, violin = centroid(play("flute", 76)), centroid(play("violin", 76))
    harpsichord, harp = centroid(play("harpsichord", 60)), centroid(play("harp", 60))
    sitar, guitar = centroid(play("sitar", 60)), centroid(play("acoustic_guitar", 60))
    kick, hat = (centroid(SOURCES["acoustic_kit"](n, 0.2, 0, new_player(np.random.default_rng(1)))) for n in (0, 2))
    assert flute < violin
    assert harp < harpsichord
    assert guitar < sitar
    assert kick < 300 < 3000 < hat
    assert (drums.KICK, drums.HAT) == (0, 2)


def test_clip_keeps_its_length_and_stays_below_full_scale() -> None:
    clip = plan_corpus(1, 5)[0]
    samples = Studio(clip.track, 5).record(clip)
    assert samples.shape == (CLIP_SAMPLES,)
    assert samples.dtype == np.float32
    assert 0.005 < np.abs(samples).max() < 1.0
