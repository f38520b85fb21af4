"""``autotag preprocess`` as one types it: what is shown, exit codes, no traceback for bad input."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest
from audio_samples import annotation_rows, clip_paths, encoded, table, tone, write_corpus
from click.testing import CliRunner
from flink_double import FlinkDouble

from pipeline import cli
from pipeline.commands.preprocess import command

GOOD = encoded(tone(0.2))
SMALL = ("--split", "folder", "--tags", "3", "--shard-clips", "4")


@pytest.fixture
def corpus(tmp_path):
    write_corpus(tmp_path, dict.fromkeys(clip_paths(32), GOOD))
    return tmp_path


@pytest.fixture
def autotag(monkeypatch, capfd):
    """Call the command line in this process: exit code, standard output, standard error."""

    def call(*arguments: object):
        monkeypatch.setattr(sys, "argv", ["autotag", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code
        out, err = capfd.readouterr()
        return code, out, err

    return call


def preprocess(autotag, corpus, *options, annotations=None):
    return autotag("preprocess", corpus, annotations or corpus / "annotations_final.csv", corpus / "out", *options)


def test_counts_and_where_the_output_went_are_printed(autotag, corpus):
    (corpus / clip_paths(32)[0]).write_bytes(b"")
    (corpus / "0/more.mp3").write_bytes(GOOD)
    code, out, err = preprocess(autotag, corpus, *SMALL)
    assert code == 0
    assert "rejected: 1 (empty 1), see" in out
    assert "audio files that no annotation names: 1" in out
    assert f"written: {corpus / 'out'}" in out
    assert "32 clips (train 24, valid 2, test 6) in" in err
    assert "32/32" in err
    assert "Traceback" not in err
    assert {path.name.split("-")[0] for path in (corpus / "out").glob("*.tfrecord")} == {"train", "valid", "test"}
    assert json.loads((corpus / "out/summary.json").read_text())["examples"] == 31


def test_dry_run_writes_nothing(autotag, corpus):
    (corpus / clip_paths(32)[0]).unlink()
    code, _, err = preprocess(autotag, corpus, *SMALL, "--dry-run")
    assert code == 0
    assert "dry run: nothing written; 1 clips are not on disk, 0 audio files are not in the annotations" in err
    assert not (corpus / "out").exists()


def test_damaged_mp3_leaves_the_terminal_clean(autotag, corpus):
    whole = bytearray(encoded(tone(10.0), kind="MP3"))
    whole[len(whole) // 2 : len(whole) // 2 + 4_000] = bytes(4_000)
    (corpus / clip_paths(32)[0]).write_bytes(whole)
    code, _, err = preprocess(autotag, corpus, *SMALL)
    assert code == 0
    assert "mpg123" not in err
    assert "Header" not in err


def test_beam_options_are_passed_through(autotag, corpus):
    code, _, _ = preprocess(
        autotag, corpus, *SMALL, "--direct_running_mode=in_memory", "--direct_num_workers", "1", "--job_name=x"
    )
    assert code == 0


def test_tags_file_is_the_list_of_tags(autotag, corpus):
    listed = corpus / "listed.txt"
    tags = list(
        reversed((corpus / "annotations_final.csv").read_text().split("\n")[0].replace('"', "").split("\t")[1:3])
    )
    listed.write_text("\n".join(tags) + "\n\n")
    code, _, err = preprocess(autotag, corpus, "--split", "folder", "--tags-file", str(listed))
    assert code == 0, err
    assert (corpus / "out" / "tags.txt").read_text().split("\n") == [*tags, ""]
    code, _, err = preprocess(autotag, corpus, "--tags-file", str(corpus / "none.txt"))
    assert code == 2
    assert "none.txt: No such file" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shard-clip=4"], "--shard-clip=4: no such option; did you mean --shard-clips?"),
        (["--frobnicate=4"], "no such option of autotag preprocess or of Beam: --frobnicate=4"),
        (["stray"], "no such option of autotag preprocess or of Beam: stray"),
        (["--split", "random"], "'random' is not one of 'track', 'artist', 'paper', 'folder', 'clean', 'published'"),
        (["--ratio", "1:2"], "split ratio '1:2': expected train:valid:test"),
        (["--tags", "4"], "4 tags are asked for and only 3 are used by any clip"),
        (["--tags", "many"], "'many' is not a valid integer"),
        (["--shard-clips", "0", "--tags", "3"], "shard clips 0: expected 1 or more"),
        (["--runner", "flink"], "runner flink: --flink-master (beam.flink_master) is missing"),
        (["--runner", "flink", "--flink-master", "f:1"], "say how its workers are started"),
        (
            ["--runner", "flink", "--flink-master", "127.0.0.1:9", "--image", "i"],
            "Flink at 127.0.0.1:9 does not answer",
        ),
        (["--parallelism", "2"], "--parallelism (beam.parallelism) belongs to the runner flink, not to direct"),
        (["--tags", "3", "--synonyms", "no.yaml"], "synonyms no.yaml: No such file or directory"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(autotag, corpus, options, message):
    code, out, err = preprocess(autotag, corpus, *options)
    assert code == 2
    assert message in err
    assert "Traceback" not in err + out
    assert not (corpus / "out").exists()


def test_option_that_only_a_job_server_can_know_is_named(autotag, corpus):
    master = ["--runner", "flink", "--flink-master", "f:1", "--image", "i"]
    code, _, err = preprocess(autotag, corpus, *SMALL, *master, "--clean_up=8", "--job_name=x", "--dry-run")
    assert code == 0
    assert "--clean_up=8: not an option of Beam's Python" in err
    assert "--job_name" not in err


@pytest.mark.parametrize("master", [(), ("--runner", "flink", "--flink-master", "f:1", "--image", "i")])
@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        (["--paralelism=8"], "--parallelism"),
        (["--paralelism", "2"], "--parallelism"),
        (["--worker-comand", "worker"], "--worker-command"),
        (["--flink-mastr", "f:1"], "--flink-master"),
        (["--environment-typ=DOCKER"], "--environment_type"),
        (["--shards-clips=9"], "--shard-clips"),
        (["--sed=1"], "--seed"),
        (["--dryrun"], "--dry-run"),
    ],
)
def test_slip_in_an_options_name_is_named_wherever_it_stands(autotag, corpus, slip, meant, master):
    places = [corpus, corpus / "annotations_final.csv", corpus / "out"]
    for words in ([*places, *master, *slip], [*slip, *places, *master], [places[0], *slip, *places[1:], *master]):
        code, out, err = autotag("preprocess", *words)
        assert code == 2
        assert f"autotag: {slip[0]}: no such option; did you mean {meant}?" in err
        assert "Traceback" not in out + err
    assert not (corpus / "out").exists()


def test_beams_options_may_stand_before_the_folders(autotag, corpus):
    places = [corpus, corpus / "annotations_final.csv", corpus / "out"]
    code, _, err = autotag("preprocess", "--job_name=x", "--direct_num_workers", "1", *places, *SMALL)
    assert code == 0, err
    assert len(json.loads((corpus / "out/summary.json").read_text())["tags"]) == 3


def test_worker_command_that_is_missing_is_named_at_once(autotag, corpus):
    (corpus / "worker").write_text("#!/bin/sh\n")
    for name, wrong in (
        ("none", "there is no such file"),
        ("worker", r"may not be run"),
        ("0", "there is no such file"),
    ):
        master = ["--runner=flink", "--flink-master=localhost:9", f"--worker-command={corpus / name}"]
        code, _, err = preprocess(autotag, corpus, *SMALL, *master)
        assert code == 2
        assert f"--worker-command (beam.worker_command) {corpus / name}: {wrong}" in err
        assert "localhost:9" in err
    (corpus / "worker").chmod(0o755)
    assert (
        "Flink at localhost:9 does not answer"
        in preprocess(autotag, corpus, *SMALL, *master[:2], f"--worker-command={corpus}/worker")[2]
    )


def test_dataflow_is_not_given_folders_of_this_machine(autotag, corpus):
    google = ["--project=p", "--region=r", "--temp-location=gs://bucket/tmp", "--image=i"]
    code, _, err = preprocess(autotag, corpus, *SMALL, "--runner=dataflow", *google, "--dry-run")
    assert code == 2
    assert f"{corpus}: Dataflow's workers see no folder of this machine: give a gs:// path" in err


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
@pytest.mark.parametrize("name", ["train-00000-of-00003.tfrecord", "tags.txt", "summary.json"])
def test_folder_with_files_of_somebody_elses_is_refused_and_left_as_it_is(autotag, corpus, name, dry_run):
    (corpus / "out").mkdir()
    (corpus / "out" / name).write_bytes(b"precious")
    code, _, err = preprocess(autotag, corpus, *SMALL, *dry_run)
    assert code == 2
    assert f"{corpus}/out: {name} would be replaced and are none of autotag's" in err
    assert "checksums" not in err
    assert [path.name for path in (corpus / "out").iterdir()] == [name]
    assert (corpus / "out" / name).read_bytes() == b"precious"


def test_other_settings_replace_the_shards_and_say_so(autotag, corpus):
    assert preprocess(autotag, corpus, *SMALL)[0] == 0
    (corpus / "out" / "train-my-notes-of-mine.tfrecord").write_bytes(b"precious")
    before = {path.name for path in (corpus / "out").glob("*.tfrecord")}
    other = ("--split", "folder", "--tags", "3", "--shard-clips", "8")
    code, _, err = preprocess(autotag, corpus, *other, "--dry-run")
    assert code == 0
    assert "shards of other settings or data are there" in err
    assert {path.name for path in (corpus / "out").glob("*.tfrecord")} == before
    code, _, err = preprocess(autotag, corpus, *other)
    assert code == 0
    assert "they are deleted when the new ones are whole" in err
    after = {path.name for path in (corpus / "out").glob("*.tfrecord")}
    assert "train-my-notes-of-mine.tfrecord" in after
    assert {name for name in after if name.startswith("train-0")}.isdisjoint(before)
    assert not preprocess(autotag, corpus, *other)[2].count("other settings")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("memory://out", "memory://out: expected a local path or one of s3://"),
        ("http://host/out", "http://host/out: expected a local path or one of s3://"),
        ("{corpus}/annotations_final.csv", "annotations_final.csv is a file"),
        ("{corpus}/annotations_final.csv/out", "annotations_final.csv is a file"),
    ],
)
def test_output_that_cannot_be_is_said_before_any_clip_is_read(autotag, corpus, out, message):
    place = out.format(corpus=corpus)
    code, _, err = autotag("preprocess", corpus, corpus / "annotations_final.csv", place, "--dry-run")
    assert code == 2
    assert message in err
    assert "checksums" not in err


ROWS = annotation_rows({path: ["guitar"] for path in clip_paths(3)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "line 1: the file is empty", id="empty"),
        pytest.param(table(ROWS).replace("\t", ",").encode(), "line 1: the columns are not separated", id="delimiter"),
        pytest.param(table([row[1:] for row in ROWS]).encode(), "line 1: the column 'clip_id' is missing", id="column"),
        pytest.param(table([*ROWS, ROWS[1]]).encode(), "line 5: clip 1 stands on line 2 already", id="duplicate"),
        pytest.param(table([*ROWS, ROWS[1][:3]]).encode(), "line 5: 3 cells where the header has 5", id="short row"),
        pytest.param(table([*ROWS, ["9", "x", *ROWS[1][2:]]]).encode(), "line 5: 'x' for the tag", id="bad cell"),
        pytest.param(table([*ROWS, ["ü", *ROWS[1][1:]]]).encode("latin-1"), "line 5: not UTF-8", id="not UTF-8"),
        pytest.param(
            table(annotation_rows(dict.fromkeys(clip_paths(3), ()))).encode(), "no clip has any tag", id="no tag"
        ),
    ],
)
def test_bad_table_stops_at_once_with_the_line(autotag, corpus, data, message):
    bad = corpus / "bad.csv"
    bad.write_bytes(data)
    code, out, err = preprocess(autotag, corpus, "--tags", "1", annotations=bad)
    assert code == 2
    assert f"autotag: {bad}" in err
    assert message in err
    assert "Traceback" not in err + out
    assert not (corpus / "out").exists()


def test_folders_that_are_not_there(autotag, corpus):
    code, _, err = autotag("preprocess", corpus / "no", corpus / "annotations_final.csv", corpus / "out", *SMALL)
    assert (code, err.strip()) == (2, f"autotag: audio folder {corpus / 'no'}: there is no such folder")
    code, _, err = preprocess(autotag, corpus, *SMALL, annotations=corpus / "no.csv")
    assert (code, err.strip()) == (2, f"autotag: annotations {corpus / 'no.csv'}: No such file or directory")


def on_a_terminal(*arguments: object) -> str:
    """Run the command line with a terminal as its standard error, and return what it shows there."""
    ours, theirs = pty.openpty()
    call = [sys.executable, "-c", "from pipeline.cli import main; main()", *map(str, arguments)]
    with subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # which is how the end of a terminal is read
            while piece := os.read(ours, 65_536):
                shown += piece
        os.close(ours)
    assert process.returncode == 0
    return shown.decode()


def test_a_terminal_shows_progress_and_a_second_call_has_nothing_to_do(corpus):
    call = ("preprocess", corpus, corpus / "annotations_final.csv", corpus / "out", *SMALL)
    first, second = on_a_terminal(*call), on_a_terminal(*call)
    assert "32/32" in first
    assert "/s" in first
    assert "WARNING" not in first
    assert "0 clips to do" in second
    assert "0/0" not in second


def test_ctrl_c_cancels_the_job_on_flink(corpus, tmp_path):
    with FlinkDouble(tmp_path / "double") as flink:
        call = ["preprocess", corpus, corpus / "annotations_final.csv", corpus / "out", *SMALL, "--runner=flink"]
        call += [f"--flink-master={flink.master}", "--worker-command=/bin/true", *flink.options]
        program = [sys.executable, "-c", "from pipeline.cli import main; main()", *map(str, call)]
        code, said = flink.run_until_ctrl_c(program)
    assert flink.calls == ["/jobs/ours?mode=cancel"]
    assert code == 1
    assert "autotag: stopped; " in said
    assert "Traceback" not in said


def test_help_has_an_example():
    text = CliRunner().invoke(command, ["--help"]).output
    assert "Examples:" in text
    for option in ("--split", "--tags", "--synonyms", "--seed", "--dry-run", "--runner", "--flink-master", "--image"):
        assert option in text
