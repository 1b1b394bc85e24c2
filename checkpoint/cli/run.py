"""`checkpoint run`: run a script that samples, and start it again if it crashes."""

import importlib.util
import sys
from pathlib import Path

import click

from checkpoint.cli.supervisor import Supervisor
from checkpoint.cli.text import say
from checkpoint.cli.verbs import SUMMARIES

__all__ = ["run"]


@click.command(
    short_help=SUMMARIES["run"],
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("-m", "module", metavar="MODULE", help="Run a module, as `python -m` does.")
@click.option(
    "--retries",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Starts in a row after the first that may record no new draw.",
)
@click.option(
    "--on-oom",
    type=click.Choice(["retry", "stop"]),
    default="retry",
    show_default=True,
    help="What to do after SIGKILL, which the kernel sends when memory is short.",
)
@click.option(
    "--final",
    type=click.IntRange(1, 255),
    multiple=True,
    metavar="CODE",
    help="An exit code after which it is not started again, as that of preempt_exit_code.",
)
@click.option(
    "--pause",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds before it is started again; doubled while nothing is gained, up to 60.",
)
@click.option(
    "--log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for the lines of this command. By default it lies beside the first store.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[SCRIPT] [ARGS]...")
@click.pass_context
def run(
    ctx: click.Context,
    module: str | None,
    retries: int,
    on_oom: str,
    final: tuple[int, ...],
    pause: float,
    log: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run a Python SCRIPT that calls checkpoint.sample, and start it again if it crashes.

    Signals are passed on to it. It is started again after an exit code other than 0, or when it
    is killed, as long as each start records draws; not when a signal told it to stop. The exit
    code is that of the script, or 128 plus the signal that killed it.
    """
    if module is not None:
        if not _exists(module):
            raise click.BadParameter(f"there is no module {module!r}.", param_hint="-m")
        start = ["-m", module, *command]
    else:
        if not command:
            raise click.UsageError("Name a script, or a module with -m.")
        if not Path(command[0]).is_file():
            raise click.BadParameter(f"{command[0]} does not exist.", param_hint="SCRIPT")
        start = list(command)

    def tell(line: str) -> None:
        say(line, err=True)

    supervisor = Supervisor([sys.executable, *start], retries, on_oom, final, log, pause, tell)
    ctx.exit(supervisor.run())


def _exists(module: str) -> bool:
    sys.path.insert(0, "")
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
    finally:
        sys.path.pop(0)
