"""What an engine needs on this machine or must find on its cluster, checked before a long job is begun."""

from __future__ import annotations

import os
import shutil
import socket
import urllib.parse
from typing import Any

from preprocessing.beam.flink import LOCAL_FLINK, check_flink_cluster
from preprocessing.beam.settings import LOCAL_SPARK, BeamSettings, option_name
from preprocessing.errors import BadInputError
from preprocessing.storage import absolute


def check_worker_command(settings: BeamSettings) -> None:
    """Check the program that starts workers, where they are started on this machine.

    Raises:
        BadInputError: it is missing or cannot be run.
    """
    master = settings.flink_master or settings.spark_master or ""
    if settings.worker_command is None or not _runs_here(master):
        return
    path = absolute(settings.worker_command)
    if not os.path.isfile(path):
        wrong = "there is no such file"
    elif not os.access(path, os.X_OK):
        wrong = "may not be run (chmod +x)"
    else:
        return
    hint = "; deploy/flink/cluster.py start prints it" if settings.runner == "flink" else ""
    name = option_name("worker_command")
    raise BadInputError(f"{name} {path}: {wrong}, and workers at {master} start by it{hint}")


def _runs_here(master: str) -> bool:
    """Whether a master's address is this machine's, or it is started by the job itself."""
    if master in LOCAL_FLINK or LOCAL_SPARK.fullmatch(master):
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


def check_requirements(options: Any) -> None:
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
        pipeline = Pipeline(options=options)  # Beam's own checks, such as of a project's name
    except ValueError as error:
        raise BadInputError(f"Beam: {' '.join(str(error).split())}") from None
    shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)  # Beam removes it when the pipeline has run
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
