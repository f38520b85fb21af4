"""Labels moved in running servers and written down, without a request that fails.

The server refuses a label for a version that is not loaded yet. So a move is three reloads: load what is wanted beside
what is there; wait until it is available everywhere; move the labels; and, when that is written down, unload the rest.
Where a server refuses, what was done is taken back.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from google.protobuf.message import Message

from preprocessing.errors import AutotagError
from serving.server.labels import LABELS_NAME, Labels
from serving.server.model_config import config_text, server_config, write_whole
from serving.server.model_server import AVAILABLE, ModelServer


def move(
    servers: Sequence[ModelServer],
    before: Labels,
    after: Labels,
    base_path: str,
    present: Collection[int] | None,
    seconds: float,
) -> Iterator[str]:
    """Move the labels in running servers, yielding what has been done; at "labelled" all have the new labels.

    Args:
        servers: replicas of one another.
        before: the labels as they are; what a server gets back if the move fails.
        after: the labels as they shall be.
        base_path: the folder of versions as the servers see it.
        present: versions that are there, None where that is not known.
        seconds: how long loading may take.

    Raises:
        AutotagError: a server does not answer, cannot load a version, or refuses; the others have been set back.
    """
    states = [server.status() for server in servers]
    changed: list[tuple[ModelServer, Message]] = []
    both = []
    try:
        for server, known in zip(servers, states, strict=True):
            serving = {number for number, state in known.items() if state.state == AVAILABLE}
            old = Labels({label: number for label, number in before.current.items() if number in serving}, {})
            back = server_config(old, base_path, before.loaded(present) if old.current else ())
            wanted = serving | set(after.current.values())
            both.append(wanted)
            changed.append((server, back))
            server.reload(server_config(old, base_path, wanted))
        yield "loading"
        for server in servers:
            server.wait_until_available(set(after.current.values()), seconds)
        for server, wanted in zip(servers, both, strict=True):
            server.reload(server_config(after, base_path, wanted))
    except BaseException:
        for server, back in changed:
            with contextlib.suppress(AutotagError):
                server.reload(back)
        raise
    yield "labelled"
    for server in servers:
        server.reload(server_config(after, base_path, after.loaded(present)))
    yield "unloaded"


def change_labels(
    model_dir: Path,
    servers: Sequence[ModelServer],
    after: Labels,
    *,
    before: Labels,
    base_path: str,
    present: Collection[int] | None,
    config_file: Path | None,
    seconds: float,
) -> Iterator[str]:
    """Move the labels in the servers, then write ``labels.json`` and the servers' configuration file.

    The caller holds ``labels_lock``. Arguments, steps and errors as in ``move``; "written" comes after "labelled".

    Raises:
        BadInputError: a file cannot be written; the servers have the new labels.
    """
    steps = move(servers, before, after, base_path, present, seconds)
    for step in steps:
        yield step
        if step == "labelled":
            break
    write_whole(model_dir / LABELS_NAME, after.to_json())
    if config_file is not None:
        write_whole(config_file, config_text(server_config(after, base_path, after.loaded(present))))
    yield "written"
    yield from steps
