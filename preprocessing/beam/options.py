"""Beam's own options, as on a command line: read, and slips in their names said."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from typing import Any, NoReturn

from preprocessing.errors import BadInputError

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
