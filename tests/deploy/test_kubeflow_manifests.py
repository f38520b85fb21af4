"""deploy/kubeflow: what it calls is there, and on the volume of the example configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from pipeline.cli import group
from pipeline.commands import gc
from pipeline.settings.config import load_config

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def pod() -> dict[str, Any]:
    text = (CHECKOUT / "deploy" / "kubeflow" / "gc-cronjob.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def test_cron_job_calls_the_command_as_it_is(pod: dict[str, Any]) -> None:
    verb, *words = pod["containers"][0]["args"]
    assert group.get_command(click.Context(group), verb) is gc.command
    given = gc.command.make_context("gc", list(words)).params
    assert (given["kubeflow"], given["keep"], given["host"]) == (True, 3, "http://ml-pipeline.kubeflow:8888")
    assert given["config"] == "/config/my.yaml"


def test_cron_job_sees_the_volume_where_the_steps_see_it(pod: dict[str, Any]) -> None:
    settings = load_config(str(CHECKOUT / "pipeline" / "configs" / "mtat-kubeflow.yaml")).kubeflow
    claims = {
        volume["name"]: volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    (container,) = pod["containers"]
    mounted = {
        (claims[mount["name"]], mount["mountPath"]) for mount in container["volumeMounts"] if mount["name"] in claims
    }
    assert mounted == {(volume.claim, volume.path) for volume in settings.volumes}
    assert container["image"] == settings.image
