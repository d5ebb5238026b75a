"""`hf weigh`: this program as an extension of the hub's own command line.

`hf` runs an extension `weigh` as the program that `~/.local/share/hf/extensions/hf-weigh/manifest.json` names.
`hf extensions install OWNER/hf-weigh` takes it from a repository of GitHub whose name begins with `hf-` and whose
package has a console script of that name: this package has one. `hf-weigh --register` names the program that is
installed here, without any repository. Source: huggingface_hub 2.4.0, `cli/extensions.py`.
"""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path

import click

from weighbridge import output_file
from weighbridge.cli.group import main as weigh
from weighbridge.cli.output import make_folder
from weighbridge.errors import WeighbridgeError

FOLDER = Path("~/.local/share/hf/extensions/hf-weigh")
NOBODY = "-installed-here-"
"""The owner in the manifest: no account of GitHub can begin with a hyphen, so no update can come from a stranger's."""


def main() -> None:
    """The program `hf-weigh`: all that `weigh` is, and `--register`."""
    if sys.argv[1:] != ["--register"]:
        weigh(prog_name="hf weigh")
    try:
        click.echo(f"`hf weigh` runs {register(Path(sys.argv[0]).absolute())}")
    except WeighbridgeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def register(program: Path) -> Path:
    """Makes `hf weigh` run a program, and returns it.

    Raises:
        SourceError: when it cannot be written.
    """
    manifest = {
        "owner": NOBODY, "repo": "hf-weigh", "repo_id": f"{NOBODY}/hf-weigh", "short_name": "weigh",
        "executable_path": str(program), "type": "python", "commit_sha": None,
        "installed_at": datetime.datetime.now(datetime.UTC).isoformat(),
        "description": "Weigh a model: parameters, bytes, state and operations.",
    }  # fmt: skip
    folder = FOLDER.expanduser()
    make_folder(folder)
    output_file.write_text(str(folder / "manifest.json"), json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return program
