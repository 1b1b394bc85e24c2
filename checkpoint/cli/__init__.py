"""The command line: one file for each verb."""

from typing import Any

import click

from checkpoint.cli.compact import compact
from checkpoint.cli.convert import convert
from checkpoint.cli.repair import repair
from checkpoint.cli.verify import verify
from checkpoint.errors import CheckpointError

__all__ = ["main"]


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CheckpointError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pymc-checkpoint")
def main() -> None:
    """Look after runs that were sampled with checkpoint."""


main.add_command(compact)
main.add_command(convert)
main.add_command(repair)
main.add_command(verify)
