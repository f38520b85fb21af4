"""Starts a Beam worker in this Python: the program that Beam's PROCESS environment calls on each machine.

A runner calls ``python -m preprocessing.sdk_worker --id=... --control_endpoint=... ...`` with the arguments of Beam's
container contract. Beam's own program for them (boot, in its images) also installs what the job sends; here everything
is installed already. Contract: Beam's ``sdks/python/container/boot.go`` and ``sdk_worker_main``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the worker until the runner ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--id", required=True, help="the worker's name, given by the runner")
    parser.add_argument("--control_endpoint", required=True)
    parser.add_argument("--logging_endpoint", required=True)
    parser.add_argument("--provision_endpoint", required=True, help="where the job's Beam options are had")
    parser.add_argument("--artifact_endpoint", help="not used: nothing is installed")
    parser.add_argument("--semi_persist_dir", default=tempfile.gettempdir())
    options, _ = parser.parse_known_args(arguments)

    os.environ |= {
        "WORKER_ID": options.id,
        "PIPELINE_OPTIONS": provisioned_options(options.provision_endpoint, options.id),
        "CONTROL_API_SERVICE_DESCRIPTOR": f'url: "{options.control_endpoint}"',
        "LOGGING_API_SERVICE_DESCRIPTOR": f'url: "{options.logging_endpoint}"',
        "SEMI_PERSISTENT_DIRECTORY": options.semi_persist_dir,
    }
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv[:1])


def provisioned_options(endpoint: str, worker_id: str) -> str:
    """Ask the runner for the job's Beam options; returns them as JSON."""
    import grpc
    from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
    from google.protobuf import json_format

    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        answer = service.GetProvisionInfo(request, metadata=[("worker_id", worker_id)], timeout=60)
    return json.dumps(json_format.MessageToDict(answer.info.pipeline_options))


if __name__ == "__main__":
    main()
