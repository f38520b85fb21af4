"""Trains and scores one entry of a comparison, in a process of its own: ``python -m pipeline.compare.train``.

Memory of one network is all that is ever held, and a network that fails ends this process alone.
"""

from __future__ import annotations

import argparse
import logging
import sys

from pipeline.compare.config import load_comparison
from preprocessing.errors import AutotagError

log = logging.getLogger(__name__)


def main() -> int:
    """Run the part of a data set's pipeline that one entry needs; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="the comparison's file")
    parser.add_argument("data", help="name of the data set")
    parser.add_argument("entry", help="name of the network in the data set's pipeline")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    from pipeline.runs.local_runner import failed_node, run_entry

    try:
        run_entry(load_comparison(arguments.config).pipeline(arguments.data), arguments.entry)
    except Exception as error:
        own = failed_node(error) or (error if isinstance(error, AutotagError) else None)
        if own is None:
            raise
        log.error("autotag: %s", own)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
