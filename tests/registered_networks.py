"""Networks that a test registers for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.registry import NETWORKS, Network, register


@contextmanager
def registered(name: str, builder: str, **settings: Any) -> Iterator[Network]:
    """Have a network in the registry meanwhile.

    Args:
        name: of the network.
        builder: ``module:function``.
        settings: what it hears, as models.registry.Network has it.
    """
    yield register(Network(name=name, title=name, source="this test", builder=builder, parameters=0, **settings))
    del NETWORKS[name]
