"""`weigh explain`."""

from __future__ import annotations

import click

from weighbridge.cli import output


@click.command("explain")
@click.argument("term", nargs=-1, metavar="[TERM]...")
@click.option("--questions", is_flag=True, help="Answer the questions that are asked most.")
@click.option("--myths", is_flag=True, help="Settle myths and misconceptions.")
@click.option("--settings", metavar="SOURCE", help="Label each setting of a model: architecture, training, decoding.")
@output.json_option
def command(term: tuple[str, ...], questions: bool, myths: bool, settings: str | None, as_json: bool) -> None:
    """Explain a term, a question or a myth, with numbers that are worked out now.

    TERM is a word of the field, such as `KV cache`; a question such as `q5`, or a myth such as `myth3`. Without it the
    terms are listed. --settings takes what `weigh inspect` takes.
    """
    if sum((bool(term), questions, myths, settings is not None)) > 1:
        raise click.UsageError("a term, --questions, --myths and --settings are asked one at a time")
    from weighbridge.claims import glossary
    from weighbridge.show import explanations

    if settings is not None:
        from weighbridge.claims.setting import settings_of

        labelled = settings_of(settings)
        if as_json:
            output.print_json(labelled.to_json())
        else:
            output.print_lines(explanations.settings_lines(labelled))
    elif term:
        found = glossary.explain(" ".join(term))
        if as_json:
            output.print_json(found.to_json())
        else:
            output.print_lines(explanations.explanation_lines(found))
    elif questions or myths:
        answers = [glossary.explained(entry) for entry in (glossary.questions() if questions else glossary.myths())]
        if as_json:
            output.print_json([answer.to_json() for answer in answers])
        else:
            output.print_lines(explanations.answer_lines(answers))
    elif as_json:
        output.print_json(glossary.listing(glossary.terms()))
    else:
        output.print_lines(explanations.listing_lines(glossary.terms()))
