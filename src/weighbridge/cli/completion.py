"""`weigh completion`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@output.json_option
def command(shell: str, as_json: bool) -> None:
    """Print the script that completes commands in a shell.

    Put `eval "$(weigh completion bash)"` into ~/.bashrc, or the like for zsh; for fish, save it as
    ~/.config/fish/completions/weigh.fish.
    """
    from click.shell_completion import get_completion_class

    from weighbridge.cli.group import main

    found = get_completion_class(shell)
    assert found is not None
    script = found(main, {}, "weigh", "_WEIGH_COMPLETE").source()
    if as_json:
        output.print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
