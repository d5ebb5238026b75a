"""`weigh check`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weighbridge.cli import output
from weighbridge.errors import UnitError

if TYPE_CHECKING:
    from weighbridge.claims.claim import Claim


@click.command("check")
@click.argument("claims", nargs=-1, required=True, metavar="CLAIM|FILE...")
@click.option("--given", default="", help="What the sentences rest on, such as 'L=80 kv=8 hd=128' or '688 MWh'.")
@click.option("--all", "everything", is_flag=True, help="Print claims that nothing here settles too.")
@click.option("--markdown", type=click.Path(dir_okay=False), help="Write the report as Markdown.")
@click.option("--html", type=click.Path(dir_okay=False), help="Write the report as one HTML page.")
@output.json_option
def command(
    claims: tuple[str, ...], given: str, everything: bool, markdown: str | None, html: str | None, as_json: bool
) -> None:
    """Check claims: which published numbers are right, which are wrong, and what is right instead.

    A CLAIM is a sentence with a number, such as 'Llama 2 70B needs 80 GB of KV cache for 4,096 tokens'. A FILE is a
    CSV of claims, or an article as Markdown, text or HTML. The exit code is 1 when one is wrong or contradicts another.
    """
    from weighbridge.claims.source import check_sources
    from weighbridge.output_file import write_text
    from weighbridge.show.claims import claim_lines, page
    from weighbridge.show.claims import markdown as written

    for path in filter(None, (markdown, html)):
        if Path(path).resolve() in {Path(source).resolve() for source in claims if len(source) < 1000}:
            raise UnitError(f"{path} is read by the same command", "another file", "choose another")
    if markdown and html and Path(markdown).resolve() == Path(html).resolve():
        raise UnitError(f"{html} is written twice", "two files", "choose another")
    report = check_sources(claims, given, _progress)
    if markdown:
        write_text(markdown, written(report))
    if html:
        write_text(html, page(report))
    if as_json:
        output.print_json(report.to_json())
    else:
        output.print_lines(claim_lines(report, everything=everything))
    sys.exit(1 if report.is_wrong else 0)


def _progress(claims: Iterable[Claim], count: int) -> Iterable[Claim]:
    """A bar on a terminal; nothing in a pipe."""
    if count < 20 or not sys.stderr.isatty():
        yield from claims
        return
    with click.progressbar(claims, length=count, label="checking", file=sys.stderr) as shown:
        yield from shown
