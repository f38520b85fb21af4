"""deploy/dataflow: metadata that fits the launcher, and the launcher's job run here and translated for Dataflow."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from audio_samples import clip_paths, encoded, tone, write_corpus
from folders import hashes

from datasets.reading import read_manifest
from pipeline.dataflow_template import finish, launch, parameters
from preprocessing import output_folder
from preprocessing.errors import BadInputError
from preprocessing.job import run_job
from preprocessing.settings import PreprocessSettings

DEPLOY = Path(__file__).parents[2] / "deploy" / "dataflow"
METADATA = json.loads((DEPLOY / "metadata.json").read_text())
SETTINGS = PreprocessSettings(split="folder", n_tags=3, shard_clips=8)


def test_metadata_names_the_launchers_parameters() -> None:
    actions = {action.dest: action for action in parameters()._actions if action.dest != "help"}
    described = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
    assert list(described) == list(actions)
    assert {name for name, one in described.items() if not one.get("isOptional")} == {
        name for name, action in actions.items() if action.required
    }
    assert METADATA["name"]
    assert METADATA["description"]
    for parameter in described.values():
        assert parameter.keys() <= {"name", "label", "helpText", "paramType", "isOptional", "regexes"}
        assert parameter["label"]
        assert parameter["helpText"].endswith(".")


def test_metadatas_patterns_take_what_the_readme_says_and_the_defaults() -> None:
    patterns = {parameter["name"]: parameter["regexes"][0] for parameter in METADATA["parameters"]}
    command = (DEPLOY / "README.md").read_text()
    given = dict(re.findall(r"(audio_dir|annotations|out)=(gs://[^,\s]+)", command))
    assert set(given) == {"audio_dir", "annotations", "out"}
    defaults = {name: parameters().get_default(name) for name in ("split", "ratio", "seed", "tags", "shard_clips")}
    for name, value in [*given.items(), *defaults.items()]:
        assert re.fullmatch(patterns[name], str(value)), (name, value)
    assert not re.fullmatch(patterns["out"], "/local/folder")
    assert not re.fullmatch(patterns["split"], "random")


def test_metadata_takes_each_choice_and_says_each_default() -> None:
    described = {parameter["name"]: parameter for parameter in METADATA["parameters"]}
    for action in parameters()._actions:
        if action.dest == "help" or action.required:
            continue
        about = described[action.dest]
        for choice in action.choices or ():
            assert re.fullmatch(about["regexes"][0], choice)
            assert choice in about["helpText"]
        if action.default not in (None, ""):
            assert f"Default: {action.default}." in about["helpText"]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_corpus(tmp_path / "clips", dict.fromkeys(clip_paths(32), encoded(tone(0.2))))
    return tmp_path


def arguments(corpus: Path, out: str) -> list[str]:
    clips = corpus / "clips"
    places = [f"--audio_dir={clips}", f"--annotations={clips}/annotations_final.csv", f"--out={corpus}/{out}"]
    return [*places, "--split=folder", "--tags=3", "--shard_clips=8"]


def test_launched_job_leaves_what_autotag_preprocess_leaves(corpus: Path) -> None:
    clips = str(corpus / "clips")
    manifest = read_manifest(clips, f"{clips}/annotations_final.csv", SETTINGS)
    run_job(manifest, clips, str(corpus / "direct"), SETTINGS)
    launch([*arguments(corpus, "template"), "--runner=DirectRunner"])
    assert hashes(corpus / "template") == hashes(corpus / "direct")
    launch([*arguments(corpus, "template"), "--runner=DirectRunner"])  # all shards are there
    assert hashes(corpus / "template") == hashes(corpus / "direct")


def test_launched_job_takes_a_list_of_tags(corpus: Path) -> None:
    header = (corpus / "clips" / "annotations_final.csv").read_text().split("\n")[0]
    first, second = header.replace('"', "").split("\t")[1:3]
    (corpus / "tags.txt").write_text(f"{second}\n{first}\n")
    launch([*arguments(corpus, "template"), f"--tags_file={corpus}/tags.txt", "--runner=DirectRunner"])
    assert (corpus / "template" / "tags.txt").read_text() == f"{second}\n{first}\n"
    launch([*arguments(corpus, "counted"), "--tags_file=", "--runner=DirectRunner"])  # left empty in a form
    assert len((corpus / "counted" / "tags.txt").read_text().splitlines()) == 3
    with pytest.raises(BadInputError, match="tags file .*absent.txt: No such file"):
        launch([*arguments(corpus, "x"), f"--tags_file={corpus}/absent.txt", "--runner=DirectRunner"])


def test_image_runs_beams_workers_in_the_environment_that_has_the_packages() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1" in dockerfile
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)[-1] == "root"
    assert "python -m pip show --quiet apache-beam" in dockerfile  # how Beam's start-up looks for itself
    ignored = (DEPLOY.parents[1] / ".dockerignore").read_text().splitlines()
    for copied in re.findall(r"^COPY (?!--from)(\S+)", dockerfile, re.MULTILINE):
        assert f"!{copied}" in ignored


def test_last_step_may_be_tried_twice(corpus: Path) -> None:
    launch([*arguments(corpus, "template"), "--runner=DirectRunner"])
    before = hashes(corpus / "template")
    assert finish(5, str(corpus / "template"), SETTINGS) == str(corpus / "template" / "summary.json")
    assert hashes(corpus / "template") == before


@pytest.mark.parametrize("summary", ["of an earlier job", None])
def test_last_step_that_is_lost_before_its_end_is_done_by_the_next_attempt(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, summary: str | None
) -> None:
    out = corpus / "template"
    launch([*arguments(corpus, "template"), "--runner=DirectRunner"])
    before = hashes(out)
    manifest = read_manifest(str(corpus / "clips"), f"{corpus}/clips/annotations_final.csv", SETTINGS)
    (out / ".shards" / "manifest.json").write_text(manifest.to_json())
    (out / "summary.json").unlink()
    if summary:
        (out / "summary.json").write_text(summary)
    with monkeypatch.context() as lost:
        lost.setattr(output_folder, "summarise", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            finish(5, str(out), SETTINGS)
    finish(5, str(out), SETTINGS)
    assert hashes(out) == before


def test_job_is_translated_for_dataflow(corpus: Path) -> None:
    pytest.importorskip("apache_beam.io.gcp.gcsfilesystem", reason="Beam's Google packages are not installed")
    google = [
        "--project=music-project",
        "--region=europe-west1",
        "--temp_location=gs://bucket/tmp",
        "--job_name=autotag",
    ]
    launch([*arguments(corpus, "x"), "--runner=DataflowRunner", *google, "--sdk_container_image=i", "--dry_run=True"])
    assert not list((corpus / "x").glob("*.tfrecord"))


def test_bad_parameters_end_the_launch(corpus: Path) -> None:
    with pytest.raises(BadInputError, match="split ratio '1:2'"):
        launch([*arguments(corpus, "x"), "--ratio=1:2"])
    with pytest.raises(BadInputError, match="no such option of autotag preprocess or of Beam: --shards=3"):
        launch([*arguments(corpus, "x"), "--shards=3"])
