"""Settings are the same, whether typed as options, written in a configuration, or left alone."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from pipeline.console.setting_options import BEAM, PREPROCESS, options, preprocess_settings
from pipeline.dataflow_template import parameters
from pipeline.settings.config import PipelineConfig
from pipeline.settings.data_config import DataConfig
from preprocessing.settings import PreprocessSettings


def typed(*words: str) -> PreprocessSettings:
    @click.command()
    @options(PREPROCESS)
    def command(**values: object) -> PreprocessSettings:
        return preprocess_settings(values)

    result = CliRunner().invoke(command, words, standalone_mode=False, catch_exceptions=False)
    settings = result.return_value
    assert isinstance(settings, PreprocessSettings), result.output
    return settings


def test_what_is_not_given_is_the_same_everywhere() -> None:
    launched = vars(parameters().parse_args(["--audio_dir=a", "--annotations=b", "--out=c"]))
    assert preprocess_settings({**launched, "column": ()}) == PreprocessSettings()
    assert typed() == DataConfig().preprocess_settings() == PreprocessSettings()


@pytest.mark.parametrize(
    ("words", "config"),
    [
        (["--split=paper", "--ratio=2:1:1", "--seed=3"], {"split": "paper", "ratio": (2, 1, 1), "seed": 3}),
        (["--shard-clips=7", "--synonyms=x.yaml"], {"shard_clips": 7, "synonyms": "x.yaml"}),
        (["--clip-seconds=2", "--sample-rate=8000"], {"clip": {"seconds": 2, "sample_rate": 8000}}),
        (["--excerpts=even", "--excerpt-count=4"], {"excerpts": "even", "excerpt_count": 4}),
        (["--tags=5"], {"heads": {"tags": {"top": 5}}}),
        (
            ["--dataset=table", "--column=path=file", "--column=tags=genres"],
            {"dataset": "table", "annotations": "x", "columns": {"path": "file", "tags": "genres"}},
        ),
    ],
)
def test_options_and_a_configuration_make_the_same_settings(words: list[str], config: dict[str, object]) -> None:
    assert typed(*words) == DataConfig.model_validate(config).preprocess_settings() != PreprocessSettings()


def test_each_setting_of_beams_is_an_option_and_stands_in_a_configuration_with_the_same_words() -> None:
    fields = PipelineConfig.model_json_schema()["$defs"]["BeamSettings"]["properties"]
    assert [option.name for option in BEAM] == [name for name in fields if name != "options"]
    for option in BEAM:
        assert fields[option.name]["description"].lower() in option.help.lower()
        assert fields[option.name]["default"] == option.default
