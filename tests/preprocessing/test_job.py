"""The Beam job on Beam's own direct runner: whole, resumable, the same bytes however it is run."""

from __future__ import annotations

import fcntl
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from audio_samples import MTAT, TAGS, clip_paths, encoded, needs_mtat, tone, write_corpus
from folders import hashes
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from datasets.reading import read_manifest
from preprocessing import storage
from preprocessing.beam.options import parse_options
from preprocessing.errors import AutotagError, BadInputError
from preprocessing.examples import Example, read_records
from preprocessing.job import WriteShard, add_shards, run_job, worker_error
from preprocessing.output_folder import finish_job, plan_job
from preprocessing.settings import PreprocessSettings

FOLDER = PreprocessSettings(split="folder", n_tags=3, shard_clips=4)
IN_MEMORY = ("--runner=DirectRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1")
TWO_PROCESSES = ("--runner=DirectRunner", "--direct_running_mode=multi_processing", "--direct_num_workers=2")
GOOD = encoded(tone(0.2))
NAN = np.full((800, 1), np.nan, dtype=np.float32)
KINDS = {
    "good": GOOD,
    "mp3": encoded(tone(0.5, 44_100, 2), 44_100, "MP3"),
    "silent": encoded(0 * tone(0.2)),
    "empty": b"",
    "text": b"no audio at all\n" * 50,
    "nan": encoded(NAN, subtype="FLOAT"),
    "header": GOOD[:44],
    "missing": None,
}
BAD = {"empty", "text", "nan", "header", "missing"}
FIXED = ["0/a-b-1-t-0-29.mp3", "c/a-b-2-t-0-29.mp3", "d/a-b-3-t-0-29.mp3"]


def preprocess(folder: Path, choice: PreprocessSettings = FOLDER, options=IN_MEMORY, on_progress=None, out="out"):
    manifest = read_manifest(str(folder), str(folder / "annotations_final.csv"), choice)
    return run_job(manifest, str(folder), str(folder / out), choice, options, on_progress)


def examples(out: Path):
    for path in sorted(out.glob("*.tfrecord")):
        with open(path, "rb") as file:
            for record in read_records(file):
                yield path.name, Example.FromString(record).features.feature


@pytest.fixture
def corpus(tmp_path):
    write_corpus(tmp_path, dict.fromkeys(clip_paths(32), GOOD))
    return tmp_path


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A corpus of good and bad clips, preprocessed."""
    folder = tmp_path_factory.mktemp("wörk with spaces")
    paths = [
        *clip_paths(29),
        "0/an artist-größer & weiter-01-мир-0-29.mp3",
        "c/x-y-1-z-0-29.wav",
        "d/x-y-1-z-0-29.flac",
    ]
    files = dict.fromkeys(paths, GOOD)
    files |= dict(zip(paths, KINDS.values(), strict=False))
    files[paths[-1]] = encoded(tone(0.2, 48_000, 6), 48_000, "FLAC")
    write_corpus(folder, files)
    (folder / "0" / "unlisted.ogg").write_bytes(GOOD)
    seen = []
    summary = preprocess(folder, on_progress=seen.append)
    return folder, summary, seen


def test_clips_in_are_examples_and_rejected(mixed):
    folder, summary, _ = mixed
    assert (summary["clips"], summary["examples"], summary["rejected"]) == (32, 27, 5)
    ids = [features["clip_id"].bytes_list.value[0].decode() for _, features in examples(folder / "out")]
    rejected = [json.loads(line) for line in (folder / "out/rejected.jsonl").read_text().splitlines()]
    assert sorted([*ids, *(clip["clip_id"] for clip in rejected)], key=int) == [str(k) for k in range(1, 33)]
    assert {clip["clip_id"]: clip["reason"].split(":")[0] for clip in rejected} == {
        "4": "empty",
        "5": "undecodable",
        "6": "not_finite",
        "7": "empty",
        "8": "missing",
    }
    assert set(rejected[0]) == {"clip_id", "path", "reason"}


def test_examples_lie_in_their_splits_file(mixed):
    folder, _, _ = mixed
    for name, features in examples(folder / "out"):
        path = [*clip_paths(29), "0", "c", "d"][int(features["clip_id"].bytes_list.value[0]) - 1]
        assert name.split("-")[0] == ("valid" if path[0] == "c" else "test" if path[0] in "def" else "train")


def test_silent_clip_is_an_example_which_the_validator_judges(mixed):
    folder, _, _ = mixed
    by_id = {features["clip_id"].bytes_list.value[0]: features for _, features in examples(folder / "out")}
    assert by_id[b"3"]["silence_share"].float_list.value[0] == 1.0
    assert by_id[b"1"]["silence_share"].float_list.value[0] == 0.0


def test_summary_says_what_was_done(mixed):
    folder, summary, _ = mixed
    assert json.loads((folder / "out/summary.json").read_text()) == json.loads(json.dumps(summary))
    assert summary["rejected_by_reason"] == {"empty": 2, "missing": 1, "not_finite": 1, "undecodable": 1}
    assert summary["unlisted_audio"] == {"files": 1, "first": ["0/unlisted.ogg"]}
    assert sum(split["clips"] for split in summary["splits"].values()) == 32
    assert sum(split["examples"] for split in summary["splits"].values()) == 27
    assert sum(sum(counts.values()) for counts in summary["tags"].values()) == 27
    assert summary["settings"]["split"] == "folder"
    assert summary["versions"]["apache-beam"]
    assert (folder / "out/tags.txt").read_text().splitlines() == list(summary["tags"])
    assert set(summary["tags"]) == set(TAGS)


def test_progress_ends_with_all_clips(mixed):
    _, _, seen = mixed
    assert seen[-1] == 32
    assert seen == sorted(seen)


def test_path_with_spaces_and_other_letters_is_read(mixed):
    folder, _, _ = mixed
    tracks = [features["track"].bytes_list.value[0].decode() for _, features in examples(folder / "out")]
    assert "an artist-größer & weiter-01-мир" in tracks


def test_nothing_is_left_under_temporary_names(mixed):
    assert not [name for name in hashes(mixed[0] / "out") if ".tmp-" in name]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=8), st.integers(1, 5))
def test_any_mixture_of_clips_adds_up(kinds, shard_clips):
    files = dict.fromkeys(FIXED, GOOD) | {
        f"{k:x}/a-b-c{k}-t-{k}-{k + 29}.mp3": KINDS[kind] for k, kind in enumerate(kinds)
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(folder, files)
        summary = preprocess(folder, PreprocessSettings(split="folder", n_tags=3, shard_clips=shard_clips))
        bad = sum(kind in BAD for kind in kinds)
        assert (summary["clips"], summary["examples"], summary["rejected"]) == (len(files), len(files) - bad, bad)
        assert sum(1 for _ in examples(folder / "out")) == len(files) - bad
        assert len((folder / "out/rejected.jsonl").read_text().splitlines()) == bad


def test_two_processes_write_the_bytes_that_one_writes(corpus):
    preprocess(corpus, out="one")
    preprocess(corpus, options=TWO_PROCESSES, out="two")
    assert hashes(corpus / "one") == hashes(corpus / "two")


def test_second_call_writes_no_shard(corpus):
    preprocess(corpus)
    before = {path: path.stat().st_mtime_ns for path in (corpus / "out").glob("*.tfrecord")}
    preprocess(corpus)
    assert {path: path.stat().st_mtime_ns for path in (corpus / "out").glob("*.tfrecord")} == before


def test_after_one_clip_is_replaced_one_shard_is_written(corpus):
    preprocess(corpus)
    before = hashes(corpus / "out")
    (corpus / clip_paths(32)[3]).write_bytes(encoded(tone(0.3)))
    preprocess(corpus)
    after = hashes(corpus / "out")
    changed = [name for name in before if before[name] != after[name]]
    assert [name for name in changed if name.endswith(".tfrecord")] == [
        name for name in changed if name not in ("summary.json",) and not name.startswith(".shards/")
    ]
    assert sum(name.endswith(".tfrecord") for name in changed) == 1


def test_shards_of_earlier_settings_are_taken_away(corpus):
    preprocess(corpus)
    other = PreprocessSettings(split="folder", n_tags=3, shard_clips=16)
    preprocess(corpus, other)
    names = {path.name for path in (corpus / "out").glob("*.tfrecord")}
    assert names == {
        shard.name for shard in read_manifest(str(corpus), str(corpus / "annotations_final.csv"), other).shards()
    }


def test_shard_of_earlier_settings_that_cannot_be_deleted_is_said(corpus, monkeypatch):
    preprocess(corpus)
    monkeypatch.setattr(storage, "delete", lambda paths: None)
    with pytest.raises(AutotagError, match=r"out: \d+ shards of an earlier plan cannot be deleted"):
        preprocess(corpus, PreprocessSettings(split="folder", n_tags=3, shard_clips=16))


def test_clips_dropped_by_the_rule_are_among_the_rejected(corpus):
    summary = preprocess(corpus, PreprocessSettings(split="clean", n_tags=1))
    assert summary["clips"] == 32 == summary["examples"] + summary["rejected"]
    assert summary["rejected_by_reason"] == {"no_tag": summary["rejected"]}
    assert sum(split["clips"] for split in summary["splits"].values()) == summary["examples"]


def test_leftovers_of_a_killed_job_are_swept(corpus):
    (corpus / "out/.shards").mkdir(parents=True)
    left = [corpus / "out/.train-00000-of-00006.tfrecord.tmp-host-1-2", corpus / "out/.shards/.x.json.tmp-host-1-2"]
    for path in left:
        path.write_bytes(b"half")
    preprocess(corpus)
    assert not any(path.exists() for path in left)


KILLED = """
import sys
from preprocessing.job import run_job
from datasets.reading import read_manifest
from preprocessing.settings import PreprocessSettings
folder = sys.argv[1]
choice = PreprocessSettings(split="folder", n_tags=3, shard_clips=4)
manifest = read_manifest(folder, folder + "/annotations_final.csv", choice)
run_job(manifest, folder, folder + "/out", choice)
"""


def test_job_killed_in_the_middle_is_finished_by_the_next_with_the_same_bytes(tmp_path):
    write_corpus(tmp_path, dict.fromkeys(clip_paths(96), GOOD))
    preprocess(tmp_path, out="undisturbed")
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)])
    shards_of_all = len(list((tmp_path / "undisturbed").glob("*.tfrecord")))
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out").glob(".shards/*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    there = len(list((tmp_path / "out").glob("*.tfrecord")))
    assert 0 < there < shards_of_all

    manifest = read_manifest(str(tmp_path), str(tmp_path / "annotations_final.csv"), FOLDER)
    assert 0 < plan_job(manifest, str(tmp_path / "out")).clips_to_do < 96
    preprocess(tmp_path)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "undisturbed")


def test_second_job_in_the_same_folder_is_kept_out(corpus):
    (corpus / "out").mkdir()
    with open(corpus / "out/.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(BadInputError, match="another autotag is writing there"):
            preprocess(corpus)
    preprocess(corpus)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AutotagError("o/x: No space left on device [while running 'WriteShard']"), "o/x: No space left on device"),
        (
            RuntimeError(
                "Traceback (most recent call last):\n  File ...\nOSError: [Errno 28] No space left\n\n"
                "preprocessing.errors.AutotagError: o/x: No space left on device [while running 'WriteShard']\n"
            ),
            "o/x: No space left on device",
        ),
        (
            RuntimeError("Traceback ...\npreprocessing.errors.BadInputError: gs://b: needs a package"),
            "gs://b: needs a package",
        ),
        (RuntimeError("Traceback ...\nValueError: something else"), None),
    ],
    ids=["in this process", "from a worker process", "a worker without a package", "none of ours"],
)
def test_our_message_is_found_in_beams_errors(error, message):
    assert worker_error(error) == message


def test_disk_that_fills_up_is_said_in_one_line_and_the_next_call_goes_on(corpus):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_500_000, hard))  # shards of up to three clips can be written
    try:
        with pytest.raises(AutotagError) as caught:
            preprocess(corpus)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(
        "File too large; the shards that are whole stay, and the next call goes on from there"
    )
    assert all(path.stat().st_size < 3_500_000 for path in (corpus / "out").glob("*.tfrecord"))
    assert not (corpus / "out/summary.json").exists()
    assert preprocess(corpus)["examples"] == 32
    assert not [name for name in hashes(corpus / "out") if ".tmp-" in name]


def test_disk_that_is_too_small_is_said_before_any_work(corpus, monkeypatch):
    status = os.statvfs(corpus)
    small = os.statvfs_result((*status[:4], 10, *status[5:]))
    monkeypatch.setattr(os, "statvfs", lambda path: small)
    with pytest.raises(AutotagError, match=r"32 clips need \d+\.\d MB and \d+\.\d kB are free"):
        preprocess(corpus)


def test_output_folder_that_cannot_be_made_is_bad_input(corpus):
    (corpus / "out").write_text("a file")
    with pytest.raises(BadInputError, match="output folder .*out: "):
        preprocess(corpus)


def test_beam_options_are_passed_and_unknown_ones_refused():
    options = parse_options(["--runner=DirectRunner", "--direct_num_workers=3", "--job_name", "x"])
    assert options.view_as(DirectOptions).direct_num_workers == 3
    with pytest.raises(BadInputError, match="no such option of autotag preprocess or of Beam: --shardclips=3"):
        parse_options(["--runner=DirectRunner", "--shardclips=3"])
    with pytest.raises(BadInputError, match="Beam option: argument --direct_num_workers"):
        parse_options(["--direct_num_workers=x"])
    assert isinstance(parse_options(["--runner=FlinkRunner", "--of_its_job_server=1"]), PipelineOptions)


@needs_mtat
def test_the_real_clip_becomes_an_example(tmp_path):
    data = next((MTAT / "audio").glob("*.mp3"))
    files = dict.fromkeys([f"e/{data.name}", *FIXED], data.read_bytes())
    write_corpus(tmp_path, files)
    assert preprocess(tmp_path)["examples"] == 4
    features = next(features for name, features in examples(tmp_path / "out") if name.startswith("test"))
    assert features["seconds"].float_list.value[0] == pytest.approx(29.1, abs=0.2)
    assert features["silence_share"].float_list.value[0] < 0.1


def test_records_are_plain_tfrecords(mixed):
    path = next((mixed[0] / "out").glob("train-*.tfrecord"))
    assert all(Example.FromString(record) for record in read_records(io.BytesIO(path.read_bytes())))


def test_a_worker_needs_no_tensorflow():
    code = """
import sys
import preprocessing.job
from preprocessing.examples import clip_example
clip_example(sys.stdin.buffer.read(), "1", "t", [])
print(*sorted({"tensorflow", "keras", "tfx"} & {name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], input=GOOD, capture_output=True, check=True)
    assert done.stdout.split() == []


def test_jobs_graph_does_not_grow_with_the_clips(tmp_path):
    sizes = []
    for clips in (32, 320):
        folder = tmp_path / str(clips)
        write_corpus(folder, dict.fromkeys(clip_paths(clips), GOOD))
        choice = PreprocessSettings(split="folder", n_tags=3, shard_clips=clips)
        manifest = read_manifest(str(folder), str(folder / "annotations_final.csv"), choice)
        (folder / "out/.shards").mkdir(parents=True)
        pipeline = beam.Pipeline()
        add_shards(pipeline, manifest.shards(), str(folder), str(folder / "out"))
        sizes.append(pipeline.to_runner_api().ByteSize())
    assert sizes[1] == pytest.approx(sizes[0], rel=0.02)


def test_list_of_clips_that_is_gone_is_said(tmp_path):
    with pytest.raises(AutotagError, match="train-00000-of-00001.clips, a list of clips to do, cannot be read: No"):
        list(WriteShard(str(tmp_path), str(tmp_path)).process("train-00000-of-00001.tfrecord"))


@pytest.fixture(scope="module")
def two_jobs(tmp_path_factory):
    """A corpus and three manifests of it: the second's shards have other names, the third's the same and other tags."""
    folder = tmp_path_factory.mktemp("two-jobs")
    twice = ["c/a-b-4-t-0-29.mp3", "d/a-b-5-t-0-29.mp3"]  # no split has one shard of one clip in both
    write_corpus(folder, dict.fromkeys((*FIXED, *twice, *clip_paths(4)), GOOD))
    sizes = [(3, 4), (3, 1), (2, 4)]
    choices = [PreprocessSettings(split="folder", n_tags=tags, shard_clips=clips) for tags, clips in sizes]
    table = str(folder / "annotations_final.csv")
    manifests = [read_manifest(str(folder), table, choice) for choice in choices]
    for number, (choice, manifest) in enumerate(zip(choices, manifests, strict=True)):
        run_job(manifest, str(folder), str(folder / f"alone-{number}"), choice)
    return folder, choices, manifests


def steps(folder, out, choice, manifest):
    """A job without Beam and without a lock, as on an object store; yields after it began and after each writing."""
    before = storage.list_files(f"{out}/.shards")
    to_do = plan_job(manifest, out).to_do
    yield "began"
    add_shards(beam.Pipeline(), to_do, str(folder), out)
    yield "wrote"
    for shard in to_do:
        list(WriteShard(str(folder), out).process(shard.name))
        yield "wrote"
    finish_job(manifest, out, choice, before)


@settings(max_examples=30, deadline=None)
@example(second=1, turns=[0, 0, 0, 0, 1])
@given(second=st.sampled_from([1, 2]), turns=st.lists(st.sampled_from([0, 1]), max_size=40))
def test_of_two_jobs_in_one_folder_none_says_done_of_a_mixture(two_jobs, second, turns):
    folder, choices, manifests = two_jobs
    jobs = (0, second)
    with tempfile.TemporaryDirectory() as out:
        os.mkdir(f"{out}/.shards")
        running = {job: steps(folder, out, choices[job], manifests[job]) for job in jobs}
        disturbed, done, failed_since = set(), None, False
        for turn in [*turns, *[0] * 40, *[1] * 40]:
            job, other = jobs[turn], jobs[1 - turn]
            if job not in running:
                continue
            try:
                if next(running[job]) == "wrote":
                    disturbed.add(other)
                else:
                    disturbed.discard(job)
            except StopIteration:
                del running[job]
                done, failed_since = job, False
                assert shards_in(out) == shards_in(folder / f"alone-{job}")
                assert second == 2 or job not in disturbed
            except AutotagError:
                del running[job]
                failed_since = True
                assert job in disturbed
        assert failed_since or shards_in(out) == shards_in(folder / f"alone-{done}")
        for job in jobs:
            for _ in steps(folder, out, choices[job], manifests[job]):
                pass
            assert hashes(Path(out)) == hashes(folder / f"alone-{job}")


def shards_in(out) -> dict[str, str]:
    return {name: value for name, value in hashes(Path(out)).items() if name.endswith(".tfrecord")}
