"""How the command line reads its words: what a command and a group of commands accept."""

from __future__ import annotations

import click


class Once(click.Command):
    """A command whose options that take one value are given once; click would keep the last."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raises UsageError naming the repeated option."""
        *_, given = self.make_parser(ctx).parse_args(list(args))
        for param in given:
            once = isinstance(param, click.Option) and not param.multiple and not param.is_flag
            if once and given.count(param) > 1:
                raise click.UsageError(
                    f"{max(param.opts, key=len)} is given {given.count(param)} times and takes "
                    "one value",
                    ctx,
                )
        return super().parse_args(ctx, args)


class Commands(click.Group):
    """A group of such commands."""

    command_class = Once


class EitherOrder(Commands):
    """A group whose commands take RUN, written after the command's word or before it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`RUN sample ...` is read as `sample RUN ...`."""
        if len(args) > 1 and args[0] not in self.commands and args[1] in self.commands:
            args = [args[1], args[0], *args[2:]]
        return super().parse_args(ctx, args)
