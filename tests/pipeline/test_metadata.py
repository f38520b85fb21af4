"""ML Metadata in a file and on real servers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from database_servers import PASSWORD, server
from made_up_run import MadeUpPipeline

from pipeline.runs.metadata import connection, describe, open_store, read_password
from pipeline.runs.run_garbage import collect
from pipeline.runs.run_history import list_runs
from pipeline.runs.run_metrics import keep_metrics
from pipeline.settings.config import MetadataConfig, PipelineConfig, load_config
from preprocessing.errors import AutotagError, BadInputError

SETTINGS = ["metadata.kind=mysql", "metadata.host=db", "metadata.database=autotag", "metadata.user=me"]


@pytest.fixture(scope="module", params=["mysql", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[MetadataConfig]:
    with server(request.param) as settings:
        yield settings


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTAG_METADATA_PASSWORD", PASSWORD)


def test_runs_metrics_and_garbage_collection_work_on_a_server(database: MetadataConfig, tmp_path: Path) -> None:
    made_up = MadeUpPipeline(tmp_path / "root", "on a server", database)
    made_up.add_run("1")
    made_up.add_run("2", blessed=False)
    assert not os.path.exists(made_up.config.metadata_file)
    runs = list_runs(made_up.config)
    assert [(run.run_id, run.state, run.blessed) for run in runs] == [("1", "done", True), ("2", "done", False)]
    keep_metrics(made_up.config, runs[1])
    assert list_runs(made_up.config)[1].kept["gate_reasons"] == "ROC-AUC is 0.7321; at least 0.8000 is asked"
    assert collect(made_up.config, 1).removed[0].run_id == "1"
    assert list_runs(made_up.config)[0].roc_auc == pytest.approx(0.8623)
    assert collect(made_up.config, 1).items == ()


def test_a_wrong_password_is_said_without_the_password(
    database: MetadataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOTAG_METADATA_PASSWORD", "wrong password")
    with pytest.raises(AutotagError, match="has the user the password") as raised:
        open_store(PipelineConfig(metadata=database))
    assert describe(database) in str(raised.value)
    assert "wrong password" not in str(raised.value)


def test_a_server_that_is_not_there_is_said(database: MetadataConfig) -> None:
    with pytest.raises(AutotagError, match="Is the server there"):
        open_store(PipelineConfig(metadata=database.model_copy(update={"port": 1})))


def test_several_processes_that_write_at_the_same_time_lose_nothing(database: MetadataConfig, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from made_up_run import MadeUpPipeline\n"
        "from pipeline.settings.config import MetadataConfig\n"
        "database = MetadataConfig.model_validate_json(sys.argv[1])\n"
        "made_up = MadeUpPipeline(Path(sys.argv[2]), 'shared', database)\n"
        "for number in range(3): made_up.add_run(f'{sys.argv[3]}-{number}')\n"
    )
    MadeUpPipeline(tmp_path / "first", "shared", database).add_run("first")  # makes tables and types
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    command = [sys.executable, "-c", program, database.model_dump_json()]
    writers = [
        subprocess.Popen([*command, str(tmp_path / name), name], env={**os.environ, "PYTHONPATH": path}, text=True,
                         stderr=subprocess.PIPE)
        for name in ("a", "b")
    ]  # fmt: skip
    for writer in writers:
        assert writer.wait(120) == 0, writer.stderr.read() if writer.stderr else ""
    runs = list_runs(PipelineConfig(name="shared", metadata=database))
    assert sorted(run.run_id for run in runs) == ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2", "first"]
    assert {run.state for run in runs} == {"done"}


def test_a_file_under_the_root_is_the_default(tmp_path: Path) -> None:
    message = connection(PipelineConfig(root=str(tmp_path)))
    assert message.sqlite.filename_uri == str(tmp_path / "metadata.sqlite")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["metadata.kind=mysql"], "mysql needs host, database, user"),
        (["metadata.host=db"], "host is of a server"),
        (["metadata.kind=oracle"], "mysql"),
        ([*SETTINGS, "metadata.password=secret"], "password"),
        ([*SETTINGS, "metadata.database=a-b;"], "database"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: list[str], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        load_config(None, settings)


def test_the_password_comes_from_a_variable_or_a_file_and_is_never_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(None, SETTINGS)
    assert connection(config).mysql.password == PASSWORD
    assert connection(config).mysql.port == 3306
    assert PASSWORD not in config.to_yaml()
    (tmp_path / "password").write_text("from a file\n")
    of_file = load_config(None, [*SETTINGS, f"metadata.password_file={tmp_path}/password"])
    assert read_password(of_file.metadata) == "from a file"
    assert read_password(load_config(None, [*SETTINGS, "metadata.password_env=null"]).metadata) == ""
    monkeypatch.delenv("AUTOTAG_METADATA_PASSWORD")
    with pytest.raises(BadInputError, match="AUTOTAG_METADATA_PASSWORD"):
        connection(config)
    with pytest.raises(BadInputError, match="password_file"):
        read_password(load_config(None, [*SETTINGS, "metadata.password_file=/no/such/file"]).metadata)
