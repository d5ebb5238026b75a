"""`weigh web`."""

from __future__ import annotations

import click


@click.command("web")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8711, show_default=True, help="Port; 0 takes a free one."
)
def command(port: int) -> None:
    """Serve the local page and its HTTP interface on this machine only, until it is stopped.

    POST a config.json to /api/inspect, or GET /api/layer?spec=linear:100x50; the answers are those of --json.
    """
    from weighbridge.web import server

    server.serve(port, click.echo)
