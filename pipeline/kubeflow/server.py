"""What is asked of a Kubeflow Pipelines server: upload, run, wait, schedule, list; and its errors in words.

A thin layer over kfp.Client.
"""

from __future__ import annotations

from pipeline.kubeflow.connection import Token
from pipeline.kubeflow.schedules import Schedules
from pipeline.kubeflow.server_runs import ServerRuns
from pipeline.settings.kubeflow_config import KubeflowConfig


class Server(ServerRuns, Schedules):
    """A Kubeflow Pipelines API server: its pipelines, runs and recurring runs."""


def connect(settings: KubeflowConfig, host: str | None, token_env: str | None) -> Server:
    """Connect as the settings say.

    Args:
        settings: section ``kubeflow`` of a configuration.
        host: over ``settings.host``.
        token_env: over ``settings.token_env`` and ``token_file``.

    Raises:
        BadInputError: no address is given, or the token cannot be read.
        AutotagError: nothing answers there.
    """
    variable, file = (token_env, None) if token_env else (settings.token_env, settings.token_file)
    token = Token(variable, file) if variable or file else None
    return Server(host or settings.host, settings.namespace, token)
