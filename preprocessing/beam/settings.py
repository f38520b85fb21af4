"""Beam engines: short, checked options for the usual settings, and any Beam option besides.

The same BeamSettings come from ``autotag preprocess``'s options and from ``beam:`` in a pipeline's configuration. They
turn into Beam's own command-line arguments, and nothing else of the project knows one engine from another.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import re
import shutil
import socket
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NoReturn

from preprocessing.beam import flink_failures
from preprocessing.errors import BadInputError
from preprocessing.storage import absolute, is_local

RUNNERS = {
    "direct": "DirectRunner",
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
    "prism": "PrismRunner",
}
FLINK_VERSION = "1.19"
"""What deploy/flink starts; Beam's job server must be of the same version."""

PROCESSES_FROM_CLIPS = 1000
"""From this many clips on, the start of worker processes pays on the direct runner."""

PRISM_SECONDS = 30 * 24 * 3600
"""Beam's client gives up on a job on Prism after --job_server_timeout, which is a minute by default."""

LOCAL_FLINK = ("[local]", "[auto]")
_LOCAL_SPARK = re.compile(r"local(\[.+\])?")
_ENVIRONMENTS = ("image", "worker_pool", "worker_command")

_GOOGLE_FOLDER = re.compile(r"gs://[a-z0-9][a-z0-9._-]{1,220}[a-z0-9](/.*)?")
"""Where a bucket's name cannot be one, Beam makes a bucket of its own choice."""

_RUNNERS_OF = {
    "workers": ("direct",),
    "flink_master": ("flink",),
    "parallelism": ("flink",),
    "spark_master": ("spark",),
    "project": ("dataflow",),
    "region": ("dataflow",),
    "temp_location": ("dataflow",),
    "image": ("flink", "spark", "dataflow"),
    "worker_pool": ("flink", "spark"),
    "worker_command": ("flink", "spark"),
    "setup_file": ("flink", "spark", "dataflow"),
}
_SHORT_FORM = {
    "--runner": "runner",
    "--flink_master": "flink_master",
    "--parallelism": "parallelism",
    "--spark_master_url": "spark_master",
    "--project": "project",
    "--region": "region",
    "--temp_location": "temp_location",
    "--setup_file": "setup_file",
    "--sdk_container_image": "image",
}


@dataclass(frozen=True)
class BeamSettings:
    """Where a Beam job runs.

    Attributes:
        runner: direct, flink, spark, dataflow or prism.
        workers: processes of the direct runner; by clips and cores where it is not said.
        flink_master: ``HOST:PORT`` of Flink's REST interface, or ``[local]`` for a Flink of the job's own.
        parallelism: of the Flink job; 1 unless said, for Beam's job server does not know the cluster's default.
        spark_master: ``spark://HOST:PORT`` or ``local[N]``.
        project: Google Cloud project of a Dataflow job.
        region: of a Dataflow job.
        temp_location: ``gs://`` folder for a Dataflow job's files.
        image: container image of the workers, with autotag in it.
        worker_pool: ``HOST:PORT`` of Beam worker pools that run already, as seen from each TaskManager or executor.
        worker_command: program on each machine that starts a worker (Beam's PROCESS environment), under the same path.
        setup_file: path of this project's setup.py, which Beam packs and installs on workers that lack autotag.
        options: any other Beam option, as on a command line.

    Raises:
        BadInputError: an unknown runner, settings that do not go together, or one missing that the runner needs.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    runner: str = "direct"
    workers: int | None = None
    flink_master: str | None = None
    parallelism: int | None = None
    spark_master: str | None = None
    project: str | None = None
    region: str | None = None
    temp_location: str | None = None
    image: str | None = None
    worker_pool: str | None = None
    worker_command: str | None = None
    setup_file: str | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.runner not in RUNNERS:
            raise BadInputError(f"Beam runner {self.runner!r}: expected one of {', '.join(RUNNERS)}")
        self._check_belonging()
        self._check_options()
        {"flink": self._check_flink, "spark": self._check_spark, "dataflow": self._check_dataflow}.get(
            self.runner, lambda: None
        )()

    def _check_belonging(self) -> None:
        for name, runners in _RUNNERS_OF.items():
            if getattr(self, name) is not None and self.runner not in runners:
                raise BadInputError(f"{_name(name)} belongs to the runner {' or '.join(runners)}, not to {self.runner}")
        for name in ("workers", "parallelism"):
            count = getattr(self, name)
            if count is not None and count < 1:
                raise BadInputError(f"{_name(name)} {count}: expected 1 or more")
        said = [name for name in _ENVIRONMENTS if getattr(self, name) is not None]
        if len(said) > 1:
            raise BadInputError(f"{' and '.join(map(_name, said))}: workers run in one of these ways; say one")
        if self.setup_file is not None:
            if os.path.basename(self.setup_file) != "setup.py" or not os.path.isfile(self.setup_file):
                raise BadInputError(f"{_name('setup_file')} {self.setup_file}: expected a file named setup.py")
            if self.worker_pool or self.worker_command:
                raise BadInputError(
                    f"{_name('setup_file')}: nothing that is sent reaches the workers of a pool or of a command; "
                    "install autotag where they run"
                )

    def _check_options(self) -> None:
        for option in self.options:
            name = option.partition("=")[0]
            if name in _SHORT_FORM:
                raise BadInputError(f"Beam option {name}: say it as {_name(_SHORT_FORM[name])}")

    def check_machine(self) -> None:
        """Check what has to be on this machine, before a job finds out on a cluster.

        Raises:
            BadInputError: the workers are started here, and the program that starts them is missing or cannot be run.
        """
        master = self.flink_master or self.spark_master or ""
        if self.worker_command is None or not _runs_here(master):
            return
        path = absolute(self.worker_command)
        if not os.path.isfile(path):
            wrong = "there is no such file"
        elif not os.access(path, os.X_OK):
            wrong = "may not be run (chmod +x)"
        else:
            return
        hint = "; deploy/flink/cluster.py start prints it" if self.runner == "flink" else ""
        raise BadInputError(f"{_name('worker_command')} {path}: {wrong}, and workers at {master} start by it{hint}")

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
                f"runner flink: {_name('flink_master')} is missing: HOST:PORT of Flink's REST interface, "
                "or [local] for a Flink started for this job alone (deploy/flink has a cluster for one machine)"
            )
        if self.flink_master not in LOCAL_FLINK:
            self._check_environment()

    def _check_spark(self) -> None:
        if not self.spark_master and not self._has_option("--job_endpoint"):
            raise BadInputError(
                f"runner spark: {_name('spark_master')} is missing: spark://HOST:PORT, or local[2] for this machine"
            )
        if not (self.spark_master and _LOCAL_SPARK.fullmatch(self.spark_master)):
            self._check_environment()

    def _check_environment(self) -> None:
        if not self._has_environment:
            raise BadInputError(
                f"runner {self.runner}: say how its workers are started, with autotag installed where they run: "
                f"{_name('image')} (a container), {_name('worker_pool')} (pools that run beside the task managers) or "
                f"{_name('worker_command')} (a program on each machine)"
            )

    def _check_dataflow(self) -> None:
        for name in ("project", "region", "temp_location"):
            if not getattr(self, name):
                raise BadInputError(f"runner dataflow: {_name(name)} is missing")
        if not _GOOGLE_FOLDER.fullmatch(str(self.temp_location)):
            raise BadInputError(f"{_name('temp_location')} {self.temp_location}: expected a gs:// folder")
        if not self.image and not self.setup_file:
            raise BadInputError(
                f"runner dataflow: its workers have no autotag: give {_name('image')} or {_name('setup_file')}"
            )
        if not self.image and not self._has_option("--requirements_file"):
            raise BadInputError(
                f"{_name('setup_file')}: brings autotag without gcsfs, by which workers read gs://; "
                f"add --requirements_file=FILE with the line gcsfs, or give {_name('image')}"
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
        for option, name in _SHORT_FORM.items():
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


def settings_of(values: dict[str, Any], options: Sequence[str]) -> BeamSettings:
    """Make settings of command-line values, of which those that were not given are None.

    Raises:
        BadInputError: as BeamSettings.
    """
    known = {field.name for field in fields(BeamSettings)}
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


def _runs_here(master: str) -> bool:
    """Whether a master's address is this machine's, or it is started by the job itself."""
    if master in LOCAL_FLINK or _LOCAL_SPARK.fullmatch(master):
        return True
    host = urllib.parse.urlsplit(master if "://" in master else f"//{master}").hostname
    try:
        addresses = {item[4][0] for item in socket.getaddrinfo(host, None)} if host else set()
    except OSError:
        return False
    return any(_is_ours(str(address)) for address in addresses)


def _is_ours(address: str) -> bool:
    """Whether an address is one of this machine's: only those can be bound."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def _name(field: str) -> str:
    """How messages call a setting: as the command line does and as a configuration does."""
    return f"--{field.replace('_', '-')} (beam.{field})"


def direct_arguments(workers: int | None, clips: int) -> list[str]:
    """Return Beam's arguments for the direct runner: worker processes where they are asked for or pay."""
    count = workers or ((os.cpu_count() or 1) if clips >= PROCESSES_FROM_CLIPS else 1)
    if count == 1:
        return ["--direct_running_mode=in_memory", "--direct_num_workers=1"]
    return ["--direct_running_mode=multi_processing", f"--direct_num_workers={count}"]


_TAKES_NO_OTHERS = (None, "DirectRunner", "PrismRunner", "DataflowRunner")
"""Runners whose options are all in Beam's Python; the others' job servers, in Java, have options of their own."""


def parse_options(arguments: Sequence[str], others: Sequence[str] = ()) -> Any:
    """Make Beam's PipelineOptions of command-line arguments.

    Args:
        arguments: Beam's, as on a command line.
        others: names of options beside Beam's, for which an unknown one may be a slip.

    Raises:
        BadInputError: an argument that Beam does not know, a slip in the name of one, or a word that is no option. (A
            job server in Java may have options of its own, so there Beam judges.)
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    known, unknown, parser = _parsed(arguments)
    names = [*others, *(name for action in parser._actions for name in action.option_strings)]
    for option in unknown:
        near = _nearest(option.partition("=")[0], names)
        if near:
            raise BadInputError(f"{option}: no such option; did you mean {near}?")
    if unknown and known.runner in _TAKES_NO_OTHERS:
        raise BadInputError(f"no such option of autotag preprocess or of Beam: {unknown[0]}")
    for before, word in itertools.pairwise(["", *unknown]):
        if not word.startswith("--"):
            of = (
                f"{before}: not an option of Beam's Python, and "
                if before.startswith("--") and "=" not in before
                else ""
            )
            raise BadInputError(f"{of}{word}: not an option; what goes to the runner is written --option=value")
    return PipelineOptions(list(arguments))


def _nearest(name: str, names: Sequence[str]) -> str | None:
    """Return the option for which an unknown one is a slip: a letter or two other, cut short, or words turned round."""
    if not name.startswith("--"):
        return None
    written = {known.replace("_", "-"): known for known in reversed(names)}
    name = name.replace("_", "-").lower()
    near = difflib.get_close_matches(name, written, n=1, cutoff=0.85)
    begun = [known for known in written if known.startswith(name)] if len(name) > 5 else []
    begun += [known for known in written if sorted(known.split("-")) == sorted(name.split("-"))]
    return written[near[0]] if near else written[begun[0]] if len(begun) == 1 else None


def unknown_options(arguments: Sequence[str]) -> list[str]:
    """Return what only a runner's job server can know, and drops without a word where it does not.

    Args:
        arguments: Beam's command-line arguments.

    Raises:
        BadInputError: a known option has a value that it cannot have.
    """
    _, unknown, _ = _parsed(arguments)
    return unknown


def options_with_a_value() -> frozenset[str]:
    """Names of Beam's options that take a value, which may stand behind a blank."""
    _, _, parser = _parsed(())
    return frozenset(name for action in parser._actions if action.nargs != 0 for name in action.option_strings)


def _parsed(arguments: Sequence[str]) -> tuple[Any, list[str], Any]:
    """Return what Beam knows, what it does not, and the parser with all its options."""
    from apache_beam.options.pipeline_options import PipelineOptions, _BeamArgumentParser

    class Parser(_BeamArgumentParser):  # type: ignore[misc]
        """Beam's parser, with our way of saying what is wrong."""

        def error(self, message: str) -> NoReturn:
            raise BadInputError(f"Beam option: {message}")

    parser = Parser(add_help=False, allow_abbrev=False)
    for options in {str(cls): cls for cls in PipelineOptions.__subclasses__()}.values():
        options._add_argparse_args(parser)
    known, unknown = parser.parse_known_args(list(arguments))
    return known, unknown, parser


def check_needs(options: Any) -> None:
    """Check that what a runner needs is there, before a long job is begun.

    Args:
        options: Beam's PipelineOptions.

    Raises:
        BadInputError: names the Java, job server, Prism binary, Flink cluster or Google package that is missing, and
            how it is had; or what Beam itself finds wrong with the options.
    """
    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import StandardOptions

    runner = options.view_as(StandardOptions).runner
    if runner == "DataflowRunner":
        _check_google()  # before Beam's own checks, which ask Google
    try:
        Pipeline(options=options)  # Beam's own checks, such as of a project's name
    except ValueError as error:
        raise BadInputError(f"Beam: {' '.join(str(error).split())}") from None
    checks = {
        "FlinkRunner": _check_flink_runner,
        "SparkRunner": _check_spark_runner,
        "PrismRunner": _check_prism,
    }
    if runner in checks:
        checks[runner](options)


def _check_flink_runner(options: Any) -> None:
    from apache_beam.options.pipeline_options import FlinkRunnerOptions
    from apache_beam.runners.portability.flink_runner import FlinkJarJobServer

    flink = options.view_as(FlinkRunnerOptions)
    if flink.flink_master not in LOCAL_FLINK:
        check_flink_cluster(flink.flink_master, flink.parallelism)
    _check_job_server(options, FlinkJarJobServer)


def check_flink_cluster(master: str, parallelism: int) -> None:
    """Check that a Flink cluster answers and has enough task slots: a job that finds too few would wait for them.

    Raises:
        BadInputError: no answer, or fewer slots than ``parallelism``.
    """
    try:
        with urllib.request.urlopen(f"{_flink_url(master)}/overview", timeout=10) as answer:
            overview = json.load(answer)
    except (OSError, ValueError) as error:
        raise BadInputError(f"Flink at {master} does not answer: {error}; is the cluster up?") from None
    slots = overview.get("slots-total", 0)
    if slots < max(parallelism, 1):
        raise BadInputError(
            f"Flink at {master} has {slots} task slots and the job wants {max(parallelism, 1)}: "
            "start more TaskManagers or lower --parallelism"
        )


@dataclass(frozen=True)
class FlinkJob:
    """A job that is being sent to a Flink cluster, which knows it by its name.

    Beam's job server cannot cancel it there, and ends itself on Ctrl-C in a terminal.

    Attributes:
        url: of the cluster's REST interface.
        name: of the job.
        earlier: ids of the jobs of this name that were there before.
    """

    url: str
    name: str
    earlier: frozenset[str]

    def cancel(self) -> None:
        """Cancel the job.

        Raises:
            OSError: the cluster does not answer.
        """
        for job in _flink_jobs(self.url, self.name) - self.earlier:
            request = urllib.request.Request(f"{self.url}/jobs/{job}?mode=cancel", method="PATCH")
            urllib.request.urlopen(request, timeout=10).close()

    def why_it_failed(self) -> str | None:
        """Return what to do about the job's failure, None where the cluster does not answer or says nothing known."""
        try:
            jobs = _flink_jobs(self.url, self.name) - self.earlier
        except (OSError, ValueError):
            return None
        return flink_failures.in_words(flink_failures.texts_of(self.url, jobs))


def flink_job(options: Any) -> FlinkJob | None:
    """Name the job that these options will send to a Flink cluster, unless it has a name; None on other runners.

    Args:
        options: Beam's PipelineOptions.

    Raises:
        BadInputError: the cluster does not answer.
    """
    from apache_beam.options.pipeline_options import FlinkRunnerOptions, GoogleCloudOptions, StandardOptions

    master = options.view_as(FlinkRunnerOptions).flink_master
    if options.view_as(StandardOptions).runner != "FlinkRunner" or master in LOCAL_FLINK:
        return None
    job = options.view_as(GoogleCloudOptions)
    job.job_name = job.job_name or f"autotag-{uuid.uuid4().hex[:12]}"
    url = _flink_url(master)
    try:
        return FlinkJob(url, job.job_name, frozenset(_flink_jobs(url, job.job_name)))
    except (OSError, ValueError) as error:
        raise BadInputError(f"Flink at {master} does not answer: {error}; is the cluster up?") from None


def _flink_url(master: str) -> str:
    return (master if "://" in master else f"http://{master}").rstrip("/")


def _flink_jobs(url: str, name: str) -> set[str]:
    with urllib.request.urlopen(f"{url}/jobs/overview", timeout=10) as answer:
        return {job["jid"] for job in json.load(answer)["jobs"] if job["name"] == name}


def _check_spark_runner(options: Any) -> None:
    from apache_beam.runners.portability.spark_runner import SparkJarJobServer

    _check_job_server(options, SparkJarJobServer)


def _check_job_server(options: Any, server: Any) -> None:
    """Find the job server's jar as Beam will: in its cache, else from Maven Central."""
    from apache_beam.options.pipeline_options import JobServerOptions, PortableOptions

    if options.view_as(PortableOptions).job_endpoint:
        return
    job_server = options.view_as(JobServerOptions)
    if not shutil.which(job_server.job_server_java_launcher):
        raise BadInputError(
            f"{job_server.job_server_java_launcher}: not found, and Beam's job server needs Java 11 or 17; "
            "install it, or name a job server that runs already with --job_endpoint=HOST:PORT"
        )
    try:
        url = server(options).path_to_jar()
        server.local_jar(url, job_server.jar_cache_dir)
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInputError(f"Beam's job server cannot be had: {error}") from None


def _check_prism(options: Any) -> None:
    from apache_beam.options.pipeline_options import PortableOptions
    from apache_beam.runners.portability.prism_runner import PrismJobServer
    from apache_beam.version import __version__

    if options.view_as(PortableOptions).job_endpoint:
        return
    try:
        PrismJobServer.local_bin(PrismJobServer(options).path_to_binary())
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInputError(
            f"runner prism: its binary cannot be had ({error}); install Go and call "
            f"'go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{__version__}', "
            "or name a binary with --prism_location=FILE"
        ) from None


def _check_google() -> None:
    try:
        import apache_beam.runners.dataflow.internal.apiclient  # noqa: F401 what the runner imports when it starts
        import google.auth
        import google.auth.exceptions
    except ImportError as error:
        raise BadInputError(f"runner dataflow: {error}; pip install 'autotag[gcp]'") from None
    try:
        google.auth.default()  # type: ignore[no-untyped-call]
    except google.auth.exceptions.DefaultCredentialsError:
        raise BadInputError(
            "runner dataflow: no Google credentials were found; call `gcloud auth application-default login`, or name "
            "a service account's key file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
