"""Pipelines on a Kubeflow Pipelines server: each content is uploaded once.

Its checksum stands in the description of the version.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from typing import Any, Final

from pipeline.kubeflow.connection import Connection
from preprocessing.errors import AutotagError

CHECKSUM: Final = "autotag sha256 "


@dataclass(frozen=True)
class Version:
    """An uploaded version of a pipeline."""

    pipeline_id: str
    version_id: str
    name: str
    checksum: str
    new: bool


class NoPipelineError(AutotagError):
    """The server has the pipeline of a run no more."""


class Uploads(Connection):
    """The pipelines that a server has."""

    def publish(self, name: str, text: str) -> Version:
        """Upload a pipeline's file, unless this very text is there; returns its version.

        Raises:
            AutotagError: the server refused it, or does not answer.
        """
        checksum = hashlib.sha256(text.encode()).hexdigest()
        with self._readable_errors(f"look for the pipeline {name}"):
            pipeline_id = self._client.get_pipeline_id(name)
            list_versions = self._client.list_pipeline_versions
            there = self._pages(list_versions, "pipeline_versions", pipeline_id=pipeline_id) if pipeline_id else []
        for version in there:
            if version.description == CHECKSUM + checksum:
                return Version(pipeline_id, version.pipeline_version_id, version.display_name, checksum, new=False)
        with tempfile.TemporaryDirectory() as folder, self._readable_errors(f"take the pipeline {name}"):
            path = os.path.join(folder, "pipeline.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            if pipeline_id:
                version = self._client.upload_pipeline_version(
                    path, f"{name}-{checksum[:12]}", pipeline_id=pipeline_id, description=CHECKSUM + checksum
                )
            else:
                pipeline_id = self._client.upload_pipeline(path, name, CHECKSUM + checksum, self._namespace).pipeline_id
                version = self._client.list_pipeline_versions(pipeline_id).pipeline_versions[0]
        return Version(pipeline_id, version.pipeline_version_id, version.display_name, checksum, new=True)

    def _pipeline(
        self, user: str, pipeline_id: str | None, version_id: str | None, own: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Return a version's pipeline, or a run's own where there is no version."""
        import kfp_server_api  # type: ignore[import-untyped]

        if version_id and version_id not in self._specs:
            with self._readable_errors(f"give the pipeline of the {user}"):
                try:
                    version = self._client.get_pipeline_version(pipeline_id, version_id)
                    self._specs[version_id] = version.pipeline_spec or {}
                except kfp_server_api.ApiException as error:
                    if error.status != 404:
                        raise
                    self._specs[version_id] = {}
        found = self._specs[version_id] if version_id else own or {}
        if not found:
            raise NoPipelineError(
                f"{self.host} has the pipeline of the {user} no more, so that nobody can say which files it works with"
            )
        spec: dict[str, Any] = found.get("pipeline_spec", found)  # beside the platform's part, where there is one
        return spec
