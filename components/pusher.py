"""Push of a blessed model: whole or not at all, and never the same model twice.

TFX's Pusher copies file by file under the version's final name and pushes a model again whenever the Evaluator ran
again. Here a version appears under its name when it is whole (TensorFlow Serving polls that folder), and a model whose
newest push is still there is left alone.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from typing import Any

from tfx import types
from tfx.components.pusher import executor
from tfx.proto import pusher_pb2
from tfx.types import artifact_utils, standard_component_specs
from tfx.utils import io_utils, proto_utils

from components.push_folder import PUSH_RECORD, TEST_SET, newest_version, pushed_model
from preprocessing.whole_files import temporary_folder

log = logging.getLogger(__name__)


class WholePusherExecutor(executor.Executor):  # type: ignore[misc]
    """TFX's Pusher executor with another way of copying."""

    def Do(  # noqa: N802 TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Copy the model to the push folder as its next version, if it is blessed and not there already."""
        pushed = artifact_utils.get_single_instance(output_dict[standard_component_specs.PUSHED_MODEL_KEY])
        if not self.CheckBlessing(input_dict):
            self._MarkNotPushed(pushed)
            log.warning("not pushed: the model did not pass the gate")
            return
        model = artifact_utils.get_single_instance(input_dict[standard_component_specs.MODEL_KEY])
        destination = pusher_pb2.PushDestination()
        proto_utils.json_to_proto(exec_properties[standard_component_specs.PUSH_DESTINATION_KEY], destination)
        base = destination.filesystem.base_directory
        newest = newest_version(base)
        if newest and pushed_model(os.path.join(base, newest)) == model.uri:
            version = newest
            log.warning("already pushed: %s", os.path.join(base, version))
        else:
            test_set = json.loads(exec_properties[standard_component_specs.CUSTOM_CONFIG_KEY])[TEST_SET]
            record = {"model": model.uri, "model_id": model.id, TEST_SET: test_set}
            version = push_whole(self.GetModelPath(input_dict), base, record)
            log.warning("pushed: %s", os.path.join(base, version))
        os.makedirs(pushed.uri, exist_ok=True)
        io_utils.write_string_file(
            os.path.join(pushed.uri, PUSH_RECORD), json.dumps({"version": version, "base": base})
        )
        self._MarkPushed(pushed, pushed_destination=os.path.join(base, version), pushed_version=version)


def push_whole(model_path: str, base: str, record: dict[str, Any]) -> str:
    """Copy a SavedModel to ``base`` as a version newer than all that are there; returns the version's name."""
    with temporary_folder(base) as folder:
        shutil.copytree(model_path, folder, dirs_exist_ok=True)
        (folder / PUSH_RECORD).write_text(json.dumps(record), encoding="utf-8")
        version = str(max(int(time.time()), int(newest_version(base) or 0) + 1))
        os.rename(folder, os.path.join(base, version))
    return version
