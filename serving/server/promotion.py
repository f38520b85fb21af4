"""One change of a label: what ``autotag promote`` and ``autotag rollback`` do once their options are read.

What a person is told goes through ``say``, one line a call, so that this needs no terminal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from preprocessing.digits import is_number
from preprocessing.errors import AutotagError, BadInputError
from serving.model_versions import version_numbers
from serving.server.labels import Labels, labels_lock, read_labels
from serving.server.model_config import FOLLOWED_VERSIONS, config_text, read_config, server_config
from serving.server.model_server import ModelServer, VersionState
from serving.server.rollout import change_labels

STEPS: Final = {
    "loading": "the servers load what was asked for ...",
    "labelled": "moved in all servers",
    "written": "written down for the next start",
    "unloaded": "versions that are no longer wanted are unloaded",
}

Change = Callable[[Labels, Collection[int]], Labels]
"""From the labels and the versions that are there to the new labels."""
Connect = Callable[[str], ModelServer]
"""From a server's address to a connection."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Servers:
    """Which running servers are changed.

    Attributes:
        addresses: gRPC addresses, one for each replica; none where only what they find at their next start changes.
        connect: makes a connection to one.
        config_file: their model configuration file, which is rewritten; None for none.
        base_path: the folder of versions as they see it; None for as the configuration file has it, or as it is here.
        seconds: to wait for loading.
    """

    addresses: Sequence[str]
    connect: Connect
    config_file: Path | None = None
    base_path: str | None = None
    seconds: int = 120

    def served_path(self, model_dir: Path) -> str:
        """Return the folder of versions as the servers see it.

        Raises:
            BadInputError: the configuration file cannot be read.
        """
        if self.base_path is not None:
            return self.base_path
        if self.config_file is not None:
            return str(read_config(self.config_file).model_config_list.config[0].base_path)
        return str(model_dir.absolute())


def choose_version(wanted: str, present: Collection[int], model_dir: Path) -> int | None:
    """Return the version meant by a number, ``newest`` or ``none``.

    Raises:
        BadInputError: it is none of these, or not there.
    """
    if wanted == "none":
        return None
    if wanted == "newest" and present:
        return max(present)
    if is_number(wanted) and int(wanted) in present:
        return int(wanted)
    there = f"there are {', '.join(map(str, sorted(present)))}" if present else "there is none: see `autotag runs`"
    raise BadInputError(f"no version {wanted} in {model_dir}; {there}")


def run_change(model_dir: Path, change: Change, servers: Servers, say: Say, dry_run: bool = False) -> None:
    """Change the labels of a folder of versions in servers and files, or say what would be done.

    Raises:
        BadInputError: the change cannot be made as it was asked for.
        AutotagError: a server refuses or does not answer, or somebody else is changing them.
    """
    present = version_numbers(model_dir)
    served_path = servers.served_path(model_dir)
    with contextlib.nullcontext() if dry_run else labels_lock(model_dir):
        before = read_labels(model_dir)
        after = change(before, present)
        if dry_run:
            config = server_config(after, served_path, after.loaded(present))
            say("dry run: nothing is changed")
            _say_change(before, after, say)
            say(f"the servers' configuration would be\n{config_text(config).rstrip()}")
            return
        with connections(servers.addresses, servers.connect) as connected:
            steps = change_labels(
                model_dir,
                connected,
                after,
                before=before,
                base_path=served_path,
                present=present,
                config_file=servers.config_file,
                seconds=servers.seconds,
            )
            for step in steps:
                if step == ("labelled" if connected else "written"):
                    _say_change(before, after, say)
                if connected or step == "written":
                    say(STEPS[step])


@contextlib.contextmanager
def connections(addresses: Sequence[str], connect: Connect) -> Iterator[list[ModelServer]]:
    """Connections to servers, closed when the block ends."""
    servers = [connect(address) for address in addresses]
    try:
        yield servers
    finally:
        for server in servers:
            server.close()


def _say_change(before: Labels, after: Labels, say: Say) -> None:
    """Say what each label that moves named and names, and what will be loaded."""
    for label in sorted({*before.current, *after.current}):
        old, new = before.current.get(label), after.current.get(label)
        if old != new:
            say(f"{label}: {old or 'not set'} -> {new or 'not set'}")
    if not after.current:
        say(f"no label is left: servers follow the {FOLLOWED_VERSIONS} newest versions")


@dataclass(frozen=True)
class VersionRow:
    """One version, as ``autotag promote --show`` has it.

    Attributes:
        number: of the version.
        present: it is in the folder.
        labels: that name it.
        before: labels that named it before, to which `autotag rollback` goes back.
        states: its state in each server.
    """

    number: int
    present: bool
    labels: tuple[str, ...]
    before: tuple[str, ...]
    states: tuple[VersionState | None, ...]


def version_rows(
    model_dir: Path,
    addresses: Sequence[str],
    connect: Connect,
    on_silence: Callable[[AutotagError], None] | None = None,
) -> tuple[list[str], list[VersionRow]]:
    """Return the servers that answer, and the versions that a folder, its labels or these servers know, newest first.

    Args:
        model_dir: the folder.
        addresses: of the servers.
        connect: makes a connection to one.
        on_silence: takes the error of one that does not answer, which is then left out.

    Raises:
        BadInputError: there is no such folder.
        AutotagError: a server does not answer, and nobody takes the error.
    """
    present, labels = version_numbers(model_dir), read_labels(model_dir)
    states = _server_states(addresses, connect, on_silence)
    known = {*present, *labels.current.values(), *(number for seen in states.values() for number in seen)}
    rows = [
        VersionRow(
            number,
            number in present,
            tuple(name for name, at in labels.current.items() if at == number),
            tuple(name for name, history in labels.before.items() if history and history[-1] == number),
            tuple(seen.get(number) for seen in states.values()),
        )
        for number in sorted(known, reverse=True)
    ]
    return list(states), rows


def _server_states(
    addresses: Sequence[str], connect: Connect, on_silence: Callable[[AutotagError], None] | None
) -> dict[str, Mapping[int, VersionState]]:
    """Address -> version -> its state there."""
    states: dict[str, Mapping[int, VersionState]] = {}
    with connections(addresses, connect) as servers:
        for server in servers:
            try:
                states[server.address] = server.status()
            except AutotagError as error:
                if on_silence is None:
                    raise
                on_silence(error)
    return states
