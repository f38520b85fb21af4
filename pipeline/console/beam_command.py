"""A command of the command line that hands the options which it does not know to Beam."""

from __future__ import annotations

import click


class BeamCommand(click.Command):
    """Leaves unknown long options in ``ctx.args``, wherever they stand among the command's own words.

    click alone takes what stands before the arguments, such as ``--job_name=x AUDIO_DIR``, for an argument.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command's own words; return what is Beam's."""
        own, beyond = self._separated(args)
        super().parse_args(ctx, own)
        ctx.args = [*beyond, *ctx.args]
        return ctx.args

    def _separated(self, args: list[str]) -> tuple[list[str], list[str]]:
        takes_value = {
            name: isinstance(one, click.Option) and not one.is_flag
            for one in self.params
            for name in (*one.opts, *one.secondary_opts)
        }
        own: list[str] = []
        beyond: list[str] = []
        words = iter(args)
        for word in words:
            name, equals, _ = word.partition("=")
            if word == "--":
                own += [word, *words]
            elif not word.startswith("--") or name == "--help" or name in takes_value:
                own.append(word)
                if takes_value.get(name) and not equals:
                    own += [value for value in (next(words, None),) if value is not None]
            else:
                beyond.append(word)
                if not equals and _beam_takes_value(name):
                    beyond += [value for value in (next(words, None),) if value is not None]
        return own, beyond


def _beam_takes_value(name: str) -> bool:
    from preprocessing.beam.options import options_with_a_value

    return name in options_with_a_value()
