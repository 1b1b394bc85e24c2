"""The command line: one file for each verb, which is imported when it is called."""

from importlib import import_module
from typing import Any

import click

from checkpoint.cli.text import say
from checkpoint.cli.verbs import SUMMARIES
from checkpoint.errors import EXIT_CODES, CheckpointError

__all__ = ["main"]


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(SUMMARIES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in SUMMARIES:
            return None
        found = getattr(import_module(f"checkpoint.cli.{cmd_name}"), cmd_name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(SUMMARIES.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CheckpointError as error:
            say(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)


_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code}  {what}" for code, what in EXIT_CODES.items())


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(package_name="pymc-checkpoint")
def main() -> None:
    """Look at, check, convert and repair runs that checkpoint.sample recorded."""
