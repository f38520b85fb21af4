"""Configuration: defaults, files, overrides and clear errors."""

from pathlib import Path

import pytest
import yaml

from pipeline.config import PipelineConfig, load_config
from preprocessing.errors import BadInputError

CONFIGS = Path(__file__).parents[2] / "pipeline" / "configs"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid_and_survive_a_round_trip(path: Path) -> None:
    config = load_config(str(path))
    assert PipelineConfig.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_override_takes_precedence_over_the_file() -> None:
    config = load_config(str(CONFIGS / "mtat.yaml"), ["branches.mel_2d.epochs=3", "data.split=clean", "root=/x"])
    assert config.branches["mel_2d"].epochs == 3
    assert config.branches["mel_2d"].batch_size == 32
    assert config.data.split == "clean"
    assert config.pushed == "/x/pushed"


def test_override_of_one_setting_keeps_the_other_defaults() -> None:
    config = load_config(None, ["branches.mel_2d.epochs=40", "combiner.epochs=5"])
    assert list(config.branches) == ["mel_1d", "mel_2d", "waveform_1d"]
    assert config.branches["mel_2d"].epochs == 40
    assert (config.combiner.epochs, config.combiner.batch_size, config.combiner.patience) == (5, 64, 10)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.splitt=paper", "splitt"),
        ("data.split=paperr", "data.split"),
        ("branches.mel_3d.epochs=3", "unknown branch 'mel_3d'"),
        ("branches.mel_1d.epochs=0", "branches.mel_1d.epochs"),
        ("branches.mel_1d.epochs=many", "branches.mel_1d.epochs"),
        ("ensemble=[mel_9d]", "ensemble"),
        ("ensemble=[]", "ensemble"),
        ("ensemble=[mel_2d, mel_1d]", "order"),
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
