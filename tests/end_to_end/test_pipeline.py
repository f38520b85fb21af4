"""The whole pipeline as people run it: the command line, real MP3s, real TFX, all three networks.

One run of everything, and then what a second call, a changed clip, a refused model and a broken delivery do.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml
from command_runner import autotag
from warm_program import WarmProgram

from preprocessing.examples import Example, read_records

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmProgram]:
    """The program with TFX imported, for all calls but the first run."""
    with WarmProgram() as program:
        yield program


@pytest.fixture(scope="module")
def place(warm: WarmProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus and a configuration, and one finished run."""
    folder = tmp_path_factory.mktemp("pipeline")
    autotag("make-corpus", "corpus", "--clips", 48, "--seed", 3, cwd=folder)
    network = {"epochs": 1, "batch_size": 8}
    config = {
        "name": "test",
        "root": str(folder / "run"),
        "data": {
            "audio_dir": str(folder / "corpus"),
            "annotations": str(folder / "corpus" / "annotations_final.csv"),
            "ratio": [8, 4, 4],
            "heads": {"tags": {"top": 20}},
            "shard_clips": 6,
        },
        "networks": {"mel_1d": {"epochs": 3}, "mel_2d": network, "waveform_1d": network},
        "combiner": {"epochs": 3},
        "gate": {"min_roc_auc": 0.0},
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(config))
    autotag("run", "test.yaml", cwd=folder)
    return folder


def newest_run(warm: WarmProgram, place: Path) -> dict[str, object]:
    runs: list[dict[str, object]] = json.loads(warm("runs", "test.yaml", "--json", cwd=place).stdout)
    return runs[-1]


def pushed_versions(place: Path) -> list[str]:
    return sorted(path.name for path in (place / "run" / "pushed").iterdir())


def shard_inodes(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in (place / "run" / "shards").glob("*/*.tfrecord")}


def test_run_ends_with_a_blessed_and_pushed_ensemble(warm: WarmProgram, place: Path) -> None:
    run = newest_run(warm, place)
    assert run["state"] == "done"
    assert run["blessed"] is True
    assert run["ensemble"] == "paper"
    version = Path(str(run["pushed"]))
    assert [version.name] == pushed_versions(place)
    assert {"saved_model.pb", "variables", "model.json", "push.json"} <= {path.name for path in version.iterdir()}
    assert (version / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 1_000_000


def test_imported_weights_go_through_the_gate_and_are_pushed_if_they_pass(warm: WarmProgram, place: Path) -> None:
    """A network saved by Keras stands for weights of others; examples come from the run before."""
    make = (
        "from models.registry import find_network\nfind_network('fcn_5_narrow').build(3, seed=1).save('little.keras')"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", make], cwd=place, check=True, env=environment)
    (place / "three.txt").write_text("guitar\nslow\ndrums\n")
    before = pushed_versions(place)
    call = ("import", "fcn_5_narrow", "little.keras", "--tags", "three.txt", "--evaluate")
    strict = yaml.safe_load((place / "test.yaml").read_text()) | {
        "gate": {"min_roc_auc": 0.99, "robustness": {"noise_0.4": 1.0}},
        "robustness": {"deformations": ["gain_-20"]},
    }
    (place / "strict.yaml").write_text(yaml.safe_dump(strict))
    refused = warm(*call, "strict.yaml", cwd=place)
    assert "refused by the gate, not pushed: ROC-AUC is" in refused.stdout
    autotag("report", "--config", "strict.yaml", "--out", "strict.html", cwd=place)
    assert "ROC-AUC under gain_-20, noise_0.4, beside the clean test split" in (place / "strict.html").read_text()
    assert pushed_versions(place) == before

    said = warm(*call, "test.yaml", cwd=place)
    assert "blessed and pushed" in said.stdout
    (new,) = set(pushed_versions(place)) - set(before)
    card = json.loads((place / "run" / "pushed" / new / "model.json").read_text())
    assert card["tags"] == ["guitar", "slow", "drums"]
    assert card["origin"]["name"] == "little.keras"
    run = newest_run(warm, place)
    assert (run["ensemble"], run["pushed_version"]) == ("little.keras", new)
    assert 0 <= float(str(run["roc_auc"])) <= 1
    shutil.rmtree(place / "run" / "pushed" / new)


def test_model_card_says_what_the_model_was_made_from_and_how_it_did(place: Path) -> None:
    card = json.loads((place / "run" / "pushed" / pushed_versions(place)[0] / "model.json").read_text())
    assert len(card["tags"]) == len(card["thresholds"]) == 20
    assert len(set(card["thresholds"])) > 5
    scores_file = next((place / "run" / "artifacts" / "EnsembleTrainer" / "model_run").glob("*/scores.json"))
    rows = {row["name"]: row for row in json.loads(scores_file.read_text())["models"]}
    assert card["scores"]["test"]["roc_auc"] == rows["paper"]["roc_auc"]
    assert 0 <= card["scores"]["valid"]["f1"] <= 1
    shards = (place / "run" / "shards").glob("*/*.tfrecord")
    records = 0
    for shard in shards:
        with shard.open("rb") as file:
            records += sum(1 for _ in read_records(file))
    assert sum(card["data"]["clips"].values()) == records
    assert card["data"]["split"]["rule"] == "track"
    assert all(len(counts) == 20 for counts in card["data"]["clips_with_tag"].values())


def test_all_combinations_are_scored_and_the_evaluator_agrees(place: Path) -> None:
    scores_file = next((place / "run" / "artifacts" / "EnsembleTrainer" / "model_run").glob("*/scores.json"))
    rows = {row["name"]: row for row in json.loads(scores_file.read_text())["models"]}
    assert len(rows) == 7
    assert all(row["seconds_for_1000_clips"] > 0 and row["megabytes"] > 0 for row in rows.values())
    evaluations = (place / "run" / "artifacts" / "Evaluator" / "evaluation").iterdir()
    evaluation = min(evaluations, key=lambda path: int(path.name))  # of the first run; imported weights came later
    program = (
        "import json, sys, tensorflow_model_analysis as tfma\n"
        "slices = tfma.load_eval_result(sys.argv[1]).slicing_metrics\n"
        "print(json.dumps({name: value['doubleValue'] for name, value in slices[0][1][''][''].items()}))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(evaluation)], capture_output=True, text=True, check=True)
    values = json.loads(done.stdout.splitlines()[-1])
    ensemble = rows["paper"]
    # Both ask the networks about the waveform, as clients do.
    assert values["roc_auc"] == pytest.approx(ensemble["roc_auc"], abs=1e-3)
    assert values["pr_auc"] == pytest.approx(ensemble["pr_auc"], abs=2e-3)
    assert values["scored_tags"] == ensemble["scored_tags"]


def test_pushed_model_names_what_is_heard(place: Path) -> None:
    clip = next((place / "corpus").glob("*/*.mp3"))
    done = autotag("tag", clip, "--model", "run/pushed", "--json", "--top", 20, cwd=place)
    answer = json.loads(done.stdout.splitlines()[0])
    assert len(answer["tags"]) == 20


def test_model_normalises_by_the_training_split_and_has_its_most_frequent_tags(place: Path) -> None:
    mels, waveforms, tags = [], [], Counter[str]()
    for path in sorted((place / "run" / "shards").glob("*/train-*.tfrecord")):
        with path.open("rb") as file:
            for record in read_records(file):
                feature = Example.FromString(record).features.feature
                mels.append(np.frombuffer(feature["log_mel"].bytes_list.value[0], "<f2").astype("f8"))
                waveforms.append(np.frombuffer(feature["waveform"].bytes_list.value[0], "<i2") / 32768)
                tags.update(value.decode() for value in feature["tags"].bytes_list.value)
    model = json.loads((place / "run" / "pushed" / pushed_versions(place)[0] / "model.json").read_text())
    of_mel, _, of_waveform = (member["normalisation"] for member in model["members"])
    assert of_mel["mean"] == pytest.approx(np.mean(mels), abs=0.01)
    assert of_mel["std"] == pytest.approx(np.std(mels), rel=1e-3)
    assert of_waveform["mean"] == pytest.approx(np.mean(waveforms), abs=1e-6)
    assert of_waveform["std"] == pytest.approx(np.std(waveforms), rel=1e-3)
    counts = [tags[tag] for tag in model["tags"]]
    assert counts == [count for _, count in tags.most_common(20)]


def test_unchanged_rerun_trains_nothing_and_pushes_nothing(warm: WarmProgram, place: Path) -> None:
    before, versions = shard_inodes(place), pushed_versions(place)
    warm("run", "test.yaml", cwd=place)
    nodes = newest_run(warm, place)["nodes"]
    assert isinstance(nodes, dict)
    # The gate on anomalies has no output to cache, the Pusher looks at its folder.
    assert {name for name, state in nodes.items() if state != "cached"} <= {"RequireNoAnomalies", "Pusher"}
    assert pushed_versions(place) == versions
    assert shard_inodes(place) == before


def test_push_that_was_deleted_is_pushed_again(warm: WarmProgram, place: Path) -> None:
    shutil.rmtree(place / "run" / "pushed")
    done = warm("run", "test.yaml", cwd=place)
    (version,) = pushed_versions(place)
    assert version in done.stdout


def test_report_is_one_page(place: Path) -> None:
    autotag("report", "--config", "test.yaml", "--out", "page.html", cwd=place)
    page = (place / "page.html").read_text()
    assert "0.910 (MTAT, paper)" in page, "the paper's figure stands beside the run's"


def test_model_below_the_gate_is_not_pushed_and_the_run_says_why(warm: WarmProgram, place: Path) -> None:
    versions = pushed_versions(place)
    # Another combiner makes it another model, whose baseline is the one that was pushed.
    done = warm("run", "test.yaml", "--set", "gate.min_roc_auc=0.999", "--set", "combiner.epochs=2", cwd=place)
    assert "refused by the gate" in done.stdout
    assert "0.999" in done.stdout
    assert pushed_versions(place) == versions
    nodes = newest_run(warm, place)["nodes"]
    assert isinstance(nodes, dict)
    assert nodes["Trainer_mel_1d"] == "cached"
    (baseline,) = (place / "run" / "artifacts" / "Baseline" / "model").glob("*/Format-Serving/model.json")
    assert baseline.read_text() == (place / "run" / "pushed" / versions[-1] / "model.json").read_text()


def test_part_of_the_pipeline_runs_alone_and_unknown_nodes_are_refused(warm: WarmProgram, place: Path) -> None:
    warm("run", "test.yaml", "--to-node", "StatisticsGen", cwd=place)
    done = warm("run", "test.yaml", "--from-node", "Trainer_mel_9d", cwd=place, code=2)
    assert "Trainer_mel_1d" in done.stderr


def test_list_of_tags_is_what_transform_learns(warm: WarmProgram, place: Path) -> None:
    import tensorflow_transform as tft

    from components.labels import HeadSettings
    from components.reader import transform_facts

    before = shard_inodes(place)
    card = json.loads((place / "run" / "pushed" / pushed_versions(place)[0] / "model.json").read_text())
    listed = sorted(card["tags"][1::4])
    warm(
        "run",
        "test.yaml",
        "--set",
        f"data.heads.tags={{tags: {json.dumps(listed)}}}",
        "--to-node",
        "Transform",
        cwd=place,
    )
    graph = max((place / "run/artifacts/Transform/transform_graph").iterdir(), key=lambda path: int(path.name))
    facts = transform_facts(str(graph), [HeadSettings(tags=tuple(listed))])
    assert facts.tags == tuple(listed)
    assert tft.TFTransformOutput(str(graph)).transformed_feature_spec()["labels"].shape == [len(listed)]
    assert shard_inodes(place) == before
    done = warm("run", "test.yaml", "--set", "data.heads.tags={tags: [tuba-of-mars]}", cwd=place, code=2)
    assert "no clip has the tag 'tuba-of-mars'" in done.stderr


def test_replaced_clip_rewrites_its_own_shard_alone(warm: WarmProgram, place: Path) -> None:
    before = shard_inodes(place)
    first, second = sorted((place / "corpus").glob("*/*.mp3"))[:2]
    kept = first.read_bytes()
    shutil.copyfile(second, first)
    try:
        warm("run", "test.yaml", "--to-node", "Transform", cwd=place)
        nodes = newest_run(warm, place)["nodes"]
        assert isinstance(nodes, dict)
        assert nodes["ClipExampleGen"] == "done"
        assert nodes["CuratedSchema"] == "cached"
        changed = {name for name, inode in shard_inodes(place).items() if before[name] != inode}
        assert len(changed) == 1
    finally:
        first.write_bytes(kept)


def test_delivery_of_silent_clips_stops_the_run(warm: WarmProgram, place: Path) -> None:
    silent = place / "silent"
    shutil.copytree(place / "corpus", silent)
    for path in sorted(silent.glob("*/*.mp3"))[::2]:
        sf.write(path, np.zeros(465_600, "f4"), 16_000, format="MP3", subtype="MPEG_LAYER_III")
    done = warm(
        "run",
        "test.yaml",
        "--set",
        f"data.audio_dir={silent}",
        "--set",
        f"root={place / 'silent-run'}",
        cwd=place,
        code=1,
    )
    assert "silent" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (place / "silent-run" / "pushed").exists()


def test_bad_input_stops_before_anything_runs(warm: WarmProgram, place: Path) -> None:
    done = warm("run", "test.yaml", "--set", "data.heads.tags.top=500", cwd=place, code=2)
    assert "500" in done.stderr
    done = autotag("run", "nowhere.yaml", cwd=place, code=2)
    assert "nowhere.yaml" in done.stderr
