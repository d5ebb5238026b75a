"""The group of commands, and what happens to errors."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from typing import Any

import click

from weighbridge import __version__
from weighbridge.errors import SourceError, WeighbridgeError

COMMANDS = {
    "inspect": "Weigh a model: parameters, bytes, state and operations.",
    "fit": "Plan a model on a machine: memory, speed, cost.",
    "train": "Plan training or fine-tuning: compute, memory, time, cost.",
    "load": "Simulate a service under a load: latencies, replicas, cost.",
    "energy": "Count the energy and carbon of requests.",
    "grids": "List the grids that the carbon of electricity is known of.",
    "cost": "Count what serving a model costs.",
    "thresholds": "Say which dated rules a training run comes under: laws, orders, guidelines.",
    "check": "Check claims: which published numbers are right, which are wrong, and what is right instead.",
    "explain": "Explain a term, a question or a myth, with numbers that are worked out now.",
    "prices": "List dated prices of instances, devices, hosted models and storage.",
    "devices": "List the known devices, or rank them for a model.",
    "probe": "Measure this machine.",
    "measure": "Run a model here.",
    "prove": "Decide whether a candidate is better, equivalent or worse than a base.",
    "shrink": "Make a model smaller within a budget of bytes, and prove it.",
    "convert": "Write the same tensors, bit for bit, into other files.",
    "imatrix": "Measure which inputs of each weight matter, while a model reads texts.",
    "tokens": "Count the tokens of a text, as a model splits it.",
    "compare": "Set models side by side.",
    "models": "List the named models, or rank them for a device.",
    "history": "Show how models grew over time.",
    "design": "Find shapes within one percent of a wanted number of parameters.",
    "scaling": "Size a training run by scaling laws, or fit one to runs.",
    "layer": "Count the parameters of one layer, with the formula.",
    "encodings": "List the encodings and mixes that sizes are known for.",
    "families": "List the model families that are described.",
    "completion": "Print the script that completes commands in a shell.",
    "web": "Serve the local page and its HTTP interface.",
}
"""Each command with its short help, so that the list is printed without loading any of them."""


class Commands(click.Group):
    """Loads a command when it is called, and turns our errors into one sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, loaded now."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"weighbridge.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list from the table, without loading the commands."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs a command line. One sentence on standard error for every error that input can cause; no traceback."""
        if sys.stdout is None:
            print("error: standard output is closed; expected a place for the output; open one.", file=sys.stderr)
            sys.exit(2)
        if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal of another encoding shows ? for what it lacks
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().main(*args, **kwargs)
        except WeighbridgeError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command, and sees to it that what it printed has left."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except KeyboardInterrupt:
            click.echo(
                "stopped; a command that keeps a cache or a journal goes on from there when it is given again", err=True
            )
            ctx.exit(130)
        except BrokenPipeError:  # the reader of our output has gone, as `head` does
            _discard_output()
            ctx.exit(0)
        except OSError as error:
            _discard_output()
            read = f"standard output cannot be written ({error.strerror or error})"
            raise SourceError(read, "room for the output", "free some, or write to another place") from error
        return result


def _discard_output() -> None:
    """Points standard output to nowhere, so that closing it at the end cannot fail again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="weigh", message="%(prog)s %(version)s")
def main() -> None:
    """Weighbridge: what does a neural network weigh, and what does each number rest on?

    Every command that answers takes --json. Exit codes: 0 done; 1 the answer is no; 2 the input cannot be used.
    """
