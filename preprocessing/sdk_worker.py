"""Starts a Beam worker in this Python: the program that Beam's PROCESS environment calls on each machine.

A runner calls it with ``--id`` and ``--provision_endpoint`` and, by runner and version, more addresses; what it does
not say is asked for at the provision endpoint. Beam's own program for this (boot, in its images) also installs what the
job sends; here everything is installed already. Contract: https://s.apache.org/beam-fn-api-container-contract.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import Any


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the worker until the runner ends it."""
    os.dup2(2, 1)  # Beam's worker pool never reads its workers' standard output: what fills the pipe would stop them
    os.environ |= worker_environment(arguments)
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv[:1])


def worker_environment(arguments: Sequence[str] | None = None) -> dict[str, str]:
    """Return the variables that Beam's sdk_worker_main reads.

    Args:
        arguments: of Beam's container contract; the command line's unless given.

    Raises:
        SystemExit: an argument is missing.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", required=True, help="the worker's name, given by the runner")
    parser.add_argument("--provision_endpoint", required=True, help="where the job's Beam options are had")
    parser.add_argument("--control_endpoint", help="what the provision endpoint says unless given")
    parser.add_argument("--logging_endpoint", help="what the provision endpoint says unless given")
    parser.add_argument("--semi_persist_dir", default=tempfile.gettempdir())
    options, _ = parser.parse_known_args(arguments)
    info = provision_info(options.provision_endpoint, options.id)
    return {
        "WORKER_ID": options.id,
        "PIPELINE_OPTIONS": json.dumps(_plain(info.pipeline_options)),
        "CONTROL_API_SERVICE_DESCRIPTOR": f'url: "{options.control_endpoint or info.control_endpoint.url}"',
        "LOGGING_API_SERVICE_DESCRIPTOR": f'url: "{options.logging_endpoint or info.logging_endpoint.url}"',
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "SEMI_PERSISTENT_DIRECTORY": options.semi_persist_dir,
    }


def provision_info(endpoint: str, worker_id: str) -> Any:
    """Ask the runner what the job's workers are to know; returns Beam's ProvisionInfo.

    Raises:
        grpc.RpcError: the runner does not answer.
    """
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc

    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        return service.GetProvisionInfo(
            request, metadata=[("worker_id", worker_id)], timeout=60, wait_for_ready=True
        ).info


def _plain(options: Any) -> Any:
    """Turn a protobuf Struct into plain values: its numbers are floats, and Beam's whole ones must be ints again."""
    from google.protobuf import json_format

    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: whole(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [whole(inner) for inner in value]
        return int(value) if isinstance(value, float) and value.is_integer() else value

    return whole(json_format.MessageToDict(options))


if __name__ == "__main__":
    main()
