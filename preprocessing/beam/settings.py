"""Where a Beam job runs: each setting once, with its default, the engines that it is of, and Beam's option for it.

``autotag preprocess``'s options and ``beam:`` in a pipeline's configuration are made of them. They turn into Beam's own
command-line arguments, and nothing else of the project knows one engine from another.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from preprocessing.beam.flink import FLINK_VERSION, LOCAL_FLINK
from preprocessing.errors import BadInputError
from preprocessing.settings import setting, settings_in
from preprocessing.storage import absolute, is_local

RUNNERS: Final = {
    "direct": "DirectRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
    "prism": "PrismRunner",
}
"""Engine -> Beam's name of it."""

PROCESSES_FROM_CLIPS: Final = 1000
"""From this many clips on, the start of worker processes pays on the direct runner."""

PRISM_SECONDS: Final = 30 * 24 * 3600
"""Beam's client gives up on a job on Prism after --job_server_timeout, which is a minute by default."""

LOCAL_SPARK = re.compile(r"local(\[.+\])?")
_ENVIRONMENTS = ("image", "worker_pool", "worker_command")

_GOOGLE_FOLDER = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?")
"""Where a bucket's name cannot be one, Beam makes a bucket of its own choice."""

_FLINK, _SPARK, _DATAFLOW = ("flink",), ("spark",), ("dataflow",)
_ON_MACHINES = _FLINK + _SPARK
_ON_CLUSTERS = _ON_MACHINES + _DATAFLOW


@dataclass(frozen=True)
class BeamSettings:
    """Where a Beam job runs.

    Raises:
        BadInputError: an unknown runner, settings that do not go together, or one missing that the runner needs.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    runner: str = setting("direct", "Beam's engine", choices=tuple(RUNNERS), option="--runner")
    workers: int | None = setting(None, "processes; by clips and cores unless given", runners=("direct",), ge=1)
    flink_master: str | None = setting(
        None,
        "HOST:PORT of its REST interface, or [local] for a Flink of the job's own",
        runners=_FLINK,
        option="--flink_master",
        metavar="HOST:PORT",
    )
    parallelism: int | None = setting(
        None,
        "of the job; 1 unless given, for Beam's job server does not know the cluster's default",
        runners=_FLINK,
        option="--parallelism",
        ge=1,
    )
    spark_master: str | None = setting(
        None, "spark://HOST:PORT or local[N]", runners=_SPARK, option="--spark_master_url", metavar="URL"
    )
    project: str | None = setting(None, "Google Cloud project", runners=_DATAFLOW, option="--project")
    region: str | None = setting(None, "Google Cloud region", runners=_DATAFLOW, option="--region")
    temp_location: str | None = setting(
        None, "gs:// folder for the job's files", runners=_DATAFLOW, option="--temp_location", metavar="GS"
    )
    image: str | None = setting(
        None,
        "container image of the workers, with autotag in it",
        runners=_ON_CLUSTERS,
        option="--sdk_container_image",
    )
    worker_pool: str | None = setting(
        None,
        "HOST:PORT of Beam worker pools that run already, as seen from each TaskManager or executor",
        runners=_ON_MACHINES,
        metavar="HOST:PORT",
    )
    worker_command: str | None = setting(
        None,
        "program on each machine that starts a worker (Beam's PROCESS environment), under the same path",
        runners=_ON_MACHINES,
        metavar="FILE",
    )
    setup_file: str | None = setting(
        None,
        "this project's setup.py, which Beam packs and installs on workers that lack autotag",
        runners=_ON_CLUSTERS,
        option="--setup_file",
        metavar="FILE",
    )
    options: tuple[str, ...] = setting((), "any other Beam option, as on a command line")

    def __post_init__(self) -> None:
        if self.runner not in RUNNERS:
            raise BadInputError(f"Beam runner {self.runner!r}: expected one of {', '.join(RUNNERS)}")
        self._check_belonging()
        self._check_options()
        {"flink": self._check_flink, "spark": self._check_spark, "dataflow": self._check_dataflow}.get(
            self.runner, lambda: None
        )()

    def _check_belonging(self) -> None:
        for name, one in settings_in(BeamSettings).items():
            value, runners, least = getattr(self, name), one.metadata.get("runners"), one.metadata.get("ge")
            if runners and value is not None and self.runner not in runners:
                raise BadInputError(
                    f"{option_name(name)} belongs to the runner {' or '.join(runners)}, not to {self.runner}"
                )
            if least is not None and value is not None and value < least:
                raise BadInputError(f"{option_name(name)} {value}: expected {least} or more")
        said = [name for name in _ENVIRONMENTS if getattr(self, name) is not None]
        if len(said) > 1:
            raise BadInputError(f"{' and '.join(map(option_name, said))}: workers run in one of these ways; say one")
        if self.setup_file is not None:
            if os.path.basename(self.setup_file) != "setup.py" or not os.path.isfile(self.setup_file):
                raise BadInputError(f"{option_name('setup_file')} {self.setup_file}: expected a file named setup.py")
            if self.worker_pool or self.worker_command:
                raise BadInputError(
                    f"{option_name('setup_file')}: nothing that is sent reaches the workers of a pool or of a command; "
                    "install autotag where they run"
                )

    def _check_options(self) -> None:
        for option in self.options:
            name = option.partition("=")[0]
            if name in _BEAM_OPTIONS:
                raise BadInputError(f"Beam option {name}: say it as {option_name(_BEAM_OPTIONS[name])}")

    def check_reach(self, *paths: str) -> None:
        """Check that the workers see what lies under these paths.

        Raises:
            BadInputError: a folder of this machine, and workers on Google's.
        """
        for path in paths:
            if self.runner == "dataflow" and is_local(path):
                raise BadInputError(f"{path}: Dataflow's workers see no folder of this machine: give a gs:// path")

    def _has_option(self, *names: str) -> bool:
        return any(option.partition("=")[0] in names for option in self.options)

    @property
    def _has_environment(self) -> bool:
        return any(getattr(self, name) for name in _ENVIRONMENTS) or self._has_option("--environment_type")

    def _check_flink(self) -> None:
        if not self.flink_master and not self._has_option("--job_endpoint"):
            raise BadInputError(
                f"runner flink: {option_name('flink_master')} is missing: HOST:PORT of Flink's REST interface, "
                "or [local] for a Flink started for this job alone (deploy/flink has a cluster for one machine)"
            )
        if self.flink_master not in LOCAL_FLINK:
            self._check_environment()

    def _check_spark(self) -> None:
        if not self.spark_master and not self._has_option("--job_endpoint"):
            raise BadInputError(
                f"runner spark: {option_name('spark_master')} is missing: spark://HOST:PORT, or local[2] for this "
                "machine"
            )
        if not (self.spark_master and LOCAL_SPARK.fullmatch(self.spark_master)):
            self._check_environment()

    def _check_environment(self) -> None:
        if not self._has_environment:
            raise BadInputError(
                f"runner {self.runner}: say how its workers are started, with autotag installed where they run: "
                f"{option_name('image')} (a container), {option_name('worker_pool')} (pools that run beside the task "
                f"managers) or {option_name('worker_command')} (a program on each machine)"
            )

    def _check_dataflow(self) -> None:
        for name in ("project", "region", "temp_location"):
            if not getattr(self, name):
                raise BadInputError(f"runner dataflow: {option_name(name)} is missing")
        if not _GOOGLE_FOLDER.fullmatch(str(self.temp_location)):
            raise BadInputError(f"{option_name('temp_location')} {self.temp_location}: expected a gs:// folder")
        if not self.image and not self.setup_file:
            raise BadInputError(
                f"runner dataflow: its workers have no autotag: give {option_name('image')} or "
                f"{option_name('setup_file')}"
            )
        if not self.image and not self._has_option("--requirements_file"):
            raise BadInputError(
                f"{option_name('setup_file')}: brings autotag without gcsfs, by which workers read gs://; "
                f"add --requirements_file=FILE with the line gcsfs, or give {option_name('image')}"
            )

    def arguments(self, clips: int | None = None) -> list[str]:
        """Return Beam's command-line arguments.

        Args:
            clips: how many there are to do, which decides on processes of the direct runner where ``workers`` does not.
        """
        arguments = [f"--runner={RUNNERS[self.runner]}"]
        if self.runner == "direct" and not any(option.startswith("--direct_") for option in self.options):
            arguments += direct_arguments(self.workers, clips or 0)
        if self.runner == "prism" and not self._has_option("--prism_location"):
            binary = shutil.which("prism") or shutil.which("prism", path=os.path.expanduser("~/go/bin"))
            arguments += [f"--prism_location={binary}"] if binary else []
        if self.runner == "prism" and not self._has_option("--job_server_timeout", "--job-server-timeout"):
            arguments.append(f"--job_server_timeout={PRISM_SECONDS}")
        if self.runner == "flink" and not self._has_option("--flink_version"):
            arguments.append(f"--flink_version={FLINK_VERSION}")
        for option, name in _BEAM_OPTIONS.items():
            value = getattr(self, name)
            if name not in ("runner", "image") and value is not None:
                arguments.append(f"{option}={value}")
        return [*arguments, *self._environment_arguments(), *_with_absolute_paths(self.options)]

    def _environment_arguments(self) -> list[str]:
        if self.runner == "dataflow":
            return [f"--sdk_container_image={self.image}"] if self.image else []
        if self.image:
            kind, config = "DOCKER", self.image
        elif self.worker_pool:
            kind, config = "EXTERNAL", self.worker_pool
        elif self.worker_command:
            kind, config = "PROCESS", json.dumps({"command": absolute(self.worker_command)})
        else:
            return []
        keep = [] if self._has_option("--environment_cache_millis") else ["--environment_cache_millis=60000"]
        return [f"--environment_type={kind}", f"--environment_config={config}", *keep]


_BEAM_OPTIONS: Final = {
    one.metadata["option"]: name for name, one in settings_in(BeamSettings).items() if "option" in one.metadata
}
"""Beam's option -> the setting that stands for it."""


def settings_of(values: dict[str, Any], options: Sequence[str]) -> BeamSettings:
    """Make settings of command-line values, of which those that were not given are None.

    Raises:
        BadInputError: as BeamSettings.
    """
    known = settings_in(BeamSettings)
    given = {name: value for name, value in values.items() if name in known and value is not None}
    return BeamSettings(**given, options=tuple(options))


_PATH_OPTIONS = (
    "--staging_location",
    "--artifacts_dir",
    "--profile_location",
    "--semi_persist_dir",
    "--output_executable_path",
    "--savepoint_path",
    "--state_backend_storage_path",
)
"""Options of Beam and its job servers whose value is a path that workers or a job server use, in folders of theirs."""


def _with_absolute_paths(options: Sequence[str]) -> Iterator[str]:
    """Yield options, where a value may be in the word or in the next one."""
    before = ""
    for option in options:
        name, equals, value = option.partition("=")
        if name in _PATH_OPTIONS and value:
            yield f"{name}={absolute(value)}"
        else:
            yield absolute(option) if before in _PATH_OPTIONS else option
        before = option


def option_name(field: str) -> str:
    """How messages call a setting: as the command line does and as a configuration does."""
    return f"--{field.replace('_', '-')} (beam.{field})"


def direct_arguments(workers: int | None, clips: int) -> list[str]:
    """Return Beam's arguments for the direct runner: worker processes where they are asked for or pay."""
    count = workers or ((os.cpu_count() or 1) if clips >= PROCESSES_FROM_CLIPS else 1)
    if count == 1:
        return ["--direct_running_mode=in_memory", "--direct_num_workers=1"]
    return ["--direct_running_mode=multi_processing", f"--direct_num_workers={count}"]
