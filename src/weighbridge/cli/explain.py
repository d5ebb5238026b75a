"""`weigh explain`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from weighbridge.cli import output

if TYPE_CHECKING:
    from weighbridge.claims.explanation import Explanation


@click.command("explain")
@click.argument("what", nargs=-1, metavar="[TERM...]")
@click.option("--questions", is_flag=True, help="Answer the questions that people ask about parameters.")
@click.option("--myths", is_flag=True, help="Settle beliefs about parameters, each by a computation.")
@click.option(
    "--settings", metavar="SOURCE", help="Tell architecture, training and decoding settings of a model apart."
)
@output.json_option
def command(what: tuple[str, ...], questions: bool, myths: bool, settings: str | None, as_json: bool) -> None:
    """Explain a word of the field in plain sentences, with a number that is computed.

    TERM is a word such as 'KV cache', the number of a question such as q5, or of a myth such as myth3. Without it, all
    terms are listed.
    """
    from weighbridge.claims.explanation import explanation, find
    from weighbridge.show.explanations import explanation_lines

    if sum((bool(what), questions, myths, settings is not None)) > 1:
        raise click.UsageError("a TERM, --questions, --myths or --settings: one of them")
    found: Explanation = (
        find(" ".join(what)) if what else explanation(questions=questions, myths=myths, settings=settings)
    )
    if as_json:
        output.print_json(found.to_json())
    else:
        output.print_lines(re.sub(r"\s+$", "", line) for line in explanation_lines(found))
