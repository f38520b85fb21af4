"""Configuration: defaults, files, overrides and clear errors."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from components.training_settings import TrainingSettings
from pipeline.settings.config import PipelineConfig, load_config
from pipeline.settings.overrides import read_value
from preprocessing.errors import BadInputError

CONFIGS = Path(__file__).parents[2] / "pipeline" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid_and_survive_a_round_trip(path: Path) -> None:
    config = load_config(str(path))
    assert PipelineConfig.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_override_takes_precedence_over_the_file() -> None:
    config = load_config(str(CONFIGS / "mtat.yaml"), ["networks.mel_2d.epochs=3", "data.split=clean", "root=/x"])
    assert config.networks["mel_2d"].epochs == 3
    assert config.networks["mel_2d"].batch_size == 32
    assert config.data.split == "clean"
    assert config.pushed == "/x/pushed"


def test_override_of_one_setting_keeps_the_other_defaults() -> None:
    config = load_config(None, ["networks.mel_2d.epochs=40", "combiner.epochs=5"])
    assert list(config.networks) == ["mel_1d", "mel_2d", "waveform_1d"]
    assert config.networks["mel_2d"].epochs == 40
    assert (config.combiner.epochs, config.combiner.batch_size, config.combiner.patience) == (5, 64, 10)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.splitt=paper", "splitt"),
        ("data.split=paperr", "data.split"),
        ("networks.mel_3d.epochs=3", "no network is called 'mel_3d'; there are mel_1d"),
        ("networks.mel_1d.epochs=0", "networks.mel_1d.epochs"),
        ("networks.mel_1d.epochs=many", "networks.mel_1d.epochs"),
        ("networks.mel_1d.train=head", "needs weights"),
        ("networks.mel_1d.level=loud", "networks.mel_1d.level"),
        ("networks.model.network=mel_1d", "cannot be the name of a network"),
        ("ensembles={a: [mel_9d, mel_1d]}", "ensembles.a: ['mel_9d', 'mel_1d']: expected different ones of mel_1d"),
        ("ensembles={a: [mel_1d, mel_1d]}", "expected different ones"),
        ("ensembles={a: [mel_1d]}", "ensembles.a.of"),
        ("ensembles={mel_1d: [mel_1d, mel_2d]}", "is a network's name already"),
        ("push=nothing", "push: 'nothing': expected one of mel_1d"),
        ("data.heads={}", "one head at least"),
        ("data.heads.tags={top: 3, tags: [a]}", "either top"),
        ("data.heads.tags={kind: one-of, top: 1}", "needs two tags"),
        ("data.heads={a: {tags: [x, y]}, b: {tags: [y]}}", "'y' is in two heads"),
        ("data.clip.seconds=10", "networks.mel_1d: mel_1d hears 29.10 s at once"),
        ("gate.min_roc_auc=1.5", "gate.min_roc_auc"),
        ("name.first=x", "is a value"),
        ("epochs", "KEY=VALUE"),
        ("data.seed=[", "--set"),
        ("beam.runner=stork", "Beam runner 'stork': expected one of direct, flink"),
        ("beam.runners=flink", "beam.runners: Unexpected keyword argument"),
        ("beam.parallelism=2", "--parallelism (beam.parallelism) belongs to the runner flink"),
        ("beam.runner=flink", "--flink-master (beam.flink_master) is missing"),
        ("beam=[--direct_num_workers=2]", "beam: Input should be a dictionary"),
    ],
)
def test_wrong_setting_is_named(override: str, words: str) -> None:
    with pytest.raises(BadInputError, match=r".*") as error:
        load_config(str(CONFIGS / "demo.yaml"), [override])
    assert words in str(error.value)


def test_missing_broken_and_odd_files_are_bad_input(tmp_path: Path) -> None:
    for name, text in (("broken.yaml", "a: [1"), ("list.yaml", "- 1"), ("binary.yaml", None)):
        path = tmp_path / name
        path.write_bytes(b"\xff\xfe\x00") if text is None else path.write_text(text)
        with pytest.raises(BadInputError, match=name):
            load_config(str(path))
    with pytest.raises(BadInputError, match=r"nowhere\.yaml"):
        load_config(str(tmp_path / "nowhere.yaml"))


def test_beam_steps_get_the_runner_of_the_configuration() -> None:
    assert load_config(None).beam.arguments() == [
        "--runner=DirectRunner",
        "--direct_running_mode=in_memory",
        "--direct_num_workers=1",
    ]
    several = load_config(None, ["beam.workers=3"]).beam.arguments()
    assert several[1:] == ["--direct_running_mode=multi_processing", "--direct_num_workers=3"]
    overrides = ["beam.runner=flink", "beam.flink_master=flink:8081", "beam.parallelism=4", "beam.image=autotag:1"]
    config = load_config(None, [*overrides, "beam.options=[--job_name=weekly]"])
    assert {"--flink_master=flink:8081", "--parallelism=4", "--job_name=weekly"} <= set(config.beam.arguments())
    assert PipelineConfig.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_networks_of_any_name_windows_weights_and_ensembles() -> None:
    config = load_config(
        None,
        [
            "networks={mel_1d: {epochs: 60}, heard: {network: musicnn, weights: musicnn-mtt, train: {all_after: 2}}}",
            "networks.heard.windows={train: 2, score: 4}",
            "ensembles={mine: {of: [heard, mel_1d], combiner: logistic, fit: out_of_fold}}",
        ],
    )
    assert config.push_name == "mine"
    assert config.network("heard").name == "musicnn"
    settings = config.networks["heard"].training_settings()
    assert (settings["train"], settings["train_windows"], settings["score_windows"]) == (2, 2, 4)
    assert config.needs_folds
    assert list(config.all_combinations()) == ["mine"]


def test_what_trainers_are_told_stays_as_caches_and_checkpoints_know_it() -> None:
    """The bytes are part of the keys of TFX's cache, of checkpoints and of comparisons' evaluations."""
    config = load_config(None, ["networks={a: {network: musicnn, windows: {score: 4}}, b: {network: vgg}}", "push=a"])
    told = config.networks["a"].training_settings()
    assert json.dumps(told, sort_keys=True) == (
        '{"average": 0.0, "batch_size": 16, "class_balance": 0.0, "dropout": null, "epochs": 30, "equaliser_db": 0.0, '
        '"freeze_batch_norm": false, "frequency_mask": 0.0, "gain_db": 0.0, "label_smoothing": 0.0, '
        '"layer_decay": 1.0, "learning_rate": 0.001, "level": "as_is", "mixup": 0.0, "monitor": "roc_auc", '
        '"mp3": 0.0, "noise": 0.0, "patience": 5, "precision": "auto", "schedule": "cosine", "score_windows": 4, '
        '"seed": 0, "time_mask": 0.0, "time_shift": false, "train": "all", "train_windows": 1, "weight_decay": 0.0, '
        '"weights": null}'
    )
    assert TrainingSettings(**told).model_dump(mode="json") == told
    assert json.dumps(config.combiner.training_settings(), sort_keys=True) == (
        '{"batch_size": 64, "epochs": 100, "learning_rate": 0.001, "patience": 10, "schedule": "cosine", "seed": 0}'
    )


def test_all_subsets_of_three_networks_are_measured_and_of_four_only_what_is_asked_for() -> None:
    three = load_config(None)
    assert list(three.all_combinations()) == ["paper", "mel_1d+mel_2d", "mel_1d+waveform_1d", "mel_2d+waveform_1d"]
    four = load_config(None, ["networks.vgg={}", "ensembles={mine: [mel_1d, vgg]}", "push=mine"])
    assert list(four.all_combinations()) == ["mine"]


def test_heads_leave_each_other_their_tags() -> None:
    heads = {"genre": {"kind": "one-of", "tags": ["rock", "jazz"]}, "mood": {"top": 2, "prefix": "mood---"}}
    config = load_config(None, [f"data.heads={ {**heads, 'tags': {'top': 5}}!r}"])
    genre, mood, tags = config.data.head_settings()
    assert (genre.tags, genre.others) == (("rock", "jazz"), ())
    assert mood.others == ("rock", "jazz")
    assert tags.others == ("rock", "jazz", "mood---*")
    assert [head.size for head in (genre, mood, tags)] == [2, 2, 5]


def test_configurations_of_the_first_version_are_read_and_said(caplog: pytest.LogCaptureFixture) -> None:
    old = ["branches.mel_1d.epochs=3", "branches.mel_2d.epochs=4", "ensemble=[mel_1d, mel_2d]", "data.n_tags=20"]
    config = load_config(None, old)
    assert config.networks["mel_1d"].epochs == 3
    assert config.ensembles["all"].of == ("mel_1d", "mel_2d")
    assert (config.ensembles["all"].combiner, config.ensembles["all"].fit) == ("dense", "in_sample")
    assert config.push_name == "all"
    assert config.data.heads["tags"].top == 20
    assert "branches, ensemble, data.n_tags as in autotag 0.1" in caplog.text
    assert "--show-config" in caplog.text
    again = PipelineConfig.model_validate(yaml.safe_load(config.to_yaml()))
    assert again == config
    fixed = load_config(None, ["data.tags=[a, b]", "ensemble=[mel_1d]", "branches={mel_1d: {}}"])
    assert fixed.data.heads["tags"].tags == ("a", "b")
    assert fixed.push_name == "mel_1d"


# Settings on the command line


@pytest.mark.parametrize(
    "text",
    [
        "/music/Best of #1 hits", "/music/R&B", "&anchor", "*", "@home", "12:30", "a: b", "yes", "no", "null and void",
        "'quoted'", "- list", "[live]", "{a}", "!tag", "% percent", "| pipe", "> more", "`", "?", "1e3", "0123",
        " spaces ", "caf\udce9", "2019-01-01", "---",
    ],
)  # fmt: skip
def test_text_settings_are_taken_as_text(text: str) -> None:
    assert load_config(None, [f"root={text}"]).root == text
    assert load_config(None, [f"kubeflow.env.WHERE={text}"]).kubeflow.env == {"WHERE": text}
    assert load_config(None, [f"push_dir={text}"]).push_dir == text


@given(st.text(min_size=1, alphabet=st.characters(blacklist_characters="\0")))
@settings(max_examples=300, deadline=None)
def test_any_text_is_taken_as_it_is(text: str) -> None:
    assert read_value(PipelineConfig, ["root"], text) == text
    assert read_value(PipelineConfig, ["data", "columns", "path"], text) == text


@pytest.mark.parametrize("text", ["null", "", "~"])
def test_text_that_may_be_unset_is_unset(text: str) -> None:
    assert load_config(None, [f"metadata.password_env={text}"]).metadata.password_env is None


def test_text_in_lists_and_mappings_is_text() -> None:
    config = load_config(None, ["data.heads={tags: {tags: [yes, no, 12:30, 1e3, 'a # b']}}", "beam.options=[--a=no]"])
    assert config.data.heads["tags"].tags == ("yes", "no", "12:30", "1e3", "a # b")
    assert config.beam.options == ("--a=no",)
    assert load_config(None, ["kubeflow.env={A: 12:30, B: no}"]).kubeflow.env == {"A": "12:30", "B": "no"}


@pytest.mark.parametrize(
    ("override", "value"), [("data.seed=7", 7), ("kubeflow.caching=no", False), ("gate.max_drop=1e-3", 0.001)]
)
def test_numbers_and_switches_are_yaml(override: str, value: object) -> None:
    key, _, text = override.partition("=")
    loaded: object = load_config(None, [override])
    for name in key.split("."):
        loaded = getattr(loaded, name)
    assert (loaded, type(loaded)) == (value, type(value)), text


@pytest.mark.parametrize(
    "override", ["data.seed=3 # of 4", "data.ratio=[8,4,4] #", "data.ratio=[8, #9\n 4,4]", "data.seed=12:30"]
)
def test_nothing_is_cut_or_counted_in_sixties(override: str) -> None:
    with pytest.raises(BadInputError, match=r"would be lost as a comment|valid integer.*12:30"):
        load_config(None, [override])


def test_deformations_are_listed_once_and_named_as_they_are_written_everywhere() -> None:
    config = load_config(
        None, ["robustness.deformations=[pitch_1, mp3_32]", "gate.robustness={pitch_+1.0: 0.1, noise_0.1: 0}"]
    )
    assert config.robustness.deformations == ("pitch_+1", "mp3_32")
    assert config.gate.robustness == {"pitch_+1": 0.1, "noise_0.1": 0}
    assert config.deformations == ("pitch_+1", "mp3_32", "noise_0.1")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("robustness.deformations=[noise_2]", "robustness.deformations: 'noise_2': expected noise_ and a number"),
        ("robustness.deformations=[pitch_1, pitch_+1]", "'pitch_\\+1' stands there twice"),
        ("robustness.deformations=[rate_16000]", "robustness: rate_16000: expected less than the clips' own 16000 Hz"),
        ("gate.robustness={hall_1: 0.1}", "gate.robustness: 'hall_1': there is no such deformation"),
        ("gate.robustness={noise_0.1: 2}", "gate.robustness.noise_0.1: .*less than or equal to 1"),
    ],
)
def test_wrong_deformation_is_named(override: str, said: str) -> None:
    with pytest.raises(BadInputError, match=said) as error:
        load_config(None, [override])
    assert "\n" not in str(error.value)
