"""Fills the parts of the documentation that the code knows best.

`python docs/generate.py` rewrites the files; `--check` changes nothing, names each stale file and exits with 1. A part
lies between `<!-- generated: NAME -->` and `<!-- end generated -->`. To add one, write a function that returns its
Markdown and put `@part(FILE, NAME)` above it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weighbridge.claims.entry import Entry

DOCS = Path(__file__).resolve().parent
END = "<!-- end generated -->"
WIDTH = 100

LLAMA_1B = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 2048,
    "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
    "head_dim": 64, "tie_word_embeddings": True,
}  # fmt: skip
"""The shape of Llama 3.2 1B, whose size in every recipe the documentation lists."""

Render = Callable[[], str]
PARTS: dict[tuple[str, str], Render] = {}


def part(file: str, name: str) -> Callable[[Render], Render]:
    """Makes a function the writer of the part `name` in `file`, a path below docs/."""

    def register(render: Render) -> Render:
        assert (file, name) not in PARTS, f"two functions write {name} in {file}"
        PARTS[file, name] = render
        return render

    return register


def table(header: tuple[str, ...], rows: list[tuple[object, ...]], right: tuple[int, ...] = ()) -> str:
    """A Markdown table; `right` are the columns of numbers."""
    rules = ["---:" if column in right else "---" for column in range(len(header))]
    cells = [header, tuple(rules), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in cells)


def code(names: Iterable[str]) -> str:
    """Names as code, with commas."""
    return ", ".join(f"`{name}`" for name in names)


@part("concepts/encodings-and-recipes.md", "encodings")
def encodings() -> str:
    """The table of every encoding."""
    from weighbridge.model.encodings import ENCODINGS

    header = (
        "encoding", "elements per block", "bytes per block", "bytes per tensor", "bits per weight", "GGUF type",
        "real numbers", "other spellings",
    )  # fmt: skip
    rows: list[tuple[object, ...]] = [
        (
            f"`{encoding.name}`",
            encoding.elements_per_block,
            encoding.bytes_per_block,
            encoding.bytes_per_tensor or "",
            f"{encoding.bits_per_weight:g}",
            "" if encoding.gguf_type is None else encoding.gguf_type,
            "yes" if encoding.is_float else "no",
            code(encoding.aliases),
        )
        for encoding in ENCODINGS.values()
    ]
    return table(header, rows, right=(1, 2, 3, 4, 5))


@part("concepts/encodings-and-recipes.md", "recipes")
def recipes() -> str:
    """The table of every recipe, with the size of one model in it."""
    from weighbridge.inspection import inspect
    from weighbridge.model.recipes import RECIPES

    model = inspect(LLAMA_1B)
    sizes = model.bytes_for(RECIPES)
    header = ("recipe", "kind", "mostly", "bytes of Llama 3.2 1B", "bits per parameter")
    rows: list[tuple[object, ...]] = []
    for recipe in RECIPES.values():
        size = sizes.get(recipe.name)
        cells = ("", "") if size is None else (f"{size:,}", f"{size * 8 / model.parameters.total:.2f}")
        rows.append((f"`{recipe.name}`", recipe.kind, f"`{recipe.default.name}`", *cells))
    return table(header, rows, right=(3, 4))


@part("concepts/layers.md", "layers")
def layers() -> str:
    """The table of every kind of layer, each with a specification that works and its count."""
    from weighbridge.layer import EXAMPLES, count_layer

    plain: list[str] = []
    rows: list[tuple[object, ...]] = []
    for kind, examples in EXAMPLES.items():
        for spec in examples.split(" or "):
            layer = count_layer(spec)
            if layer.parameters == 0:
                plain.append(kind)
                continue
            rows.append((f"`{kind}`", f"`{spec}`", f"`{layer.formula}`", f"{layer.parameters:,}", layer.note))
    rows.append((code(plain), f"`{plain[0]}`", "`0`", "0", count_layer(plain[0]).note))
    return table(("kind", "example", "formula", "parameters", "note"), rows, right=(3,))


@part("reference/families.md", "families")
def families() -> str:
    """The table of every family that can be described from a configuration."""
    from weighbridge.model.families import families as described

    header = ("family", "models", "`model_type`", "GGUF `general.architecture`", "taken from")
    rows: list[tuple[object, ...]] = [
        (f"`{family.name}`", family.title, code(family.model_types), code(sorted(family.gguf)), family.source)
        for family in described()
    ]
    return table(header, rows)


@part("reference/real-files.md", "files")
def real_files() -> str:
    """The table of real files."""
    sys.path.insert(0, str(DOCS.parent))
    from tests.real.files import FILES

    header = ("package", "file", "format", "listed", "stored", "parameters", "what lies between them")
    rows: list[tuple[object, ...]] = [
        (f.package, f"`{f.pattern}`", f.format, f.listed, f"{f.stored:,}", f"{f.parameters:,}", f.why) for f in FILES
    ]
    return table(header, rows, right=(4, 5))


@part("reference/hardware.md", "devices")
def devices() -> str:
    """The table of every device of the catalogue."""
    from weighbridge.hardware.catalogue import devices as listed
    from weighbridge.units import format_bytes

    header = ("device", "title", "kind", "memory", "GB/s", "dense peaks, TFLOP/s", "W")
    rows: list[tuple[object, ...]] = [
        (
            f"`{device.name}`",
            device.title,
            device.kind,
            "" if device.memory_bytes is None else format_bytes(device.memory_bytes),
            "" if device.memory_bytes_per_s is None else f"{device.memory_bytes_per_s / 1e9:,.4g}",
            ", ".join(f"{name} {rate / 1e12:,.4g}" for name, rate in device.flops_per_s.items()),
            "" if device.tdp_w is None else f"{device.tdp_w:g}",
        )
        for device in listed()
    ]
    return table(header, rows, right=(3, 4, 6))


@part("reference/hardware.md", "instances")
def instances() -> str:
    """The table of what clouds rent."""
    from weighbridge.hardware.instances import instances as listed

    header = ("instance", "cloud", "devices", "USD an hour", "of", "region")
    rows: list[tuple[object, ...]] = [
        (
            f"`{one.name}`",
            one.cloud,
            f"{one.devices} x `{one.device}`",
            "" if one.price_usd_per_h is None else f"{one.price_usd_per_h:,.2f}",
            one.price_date or "",
            one.region or "",
        )
        for one in listed().values()
    ]
    return table(header, rows, right=(3,))


@part("reference/cli.md", "cli")
def command_line() -> str:
    """The help of `weigh` and of each of its commands, as the terminal shows it."""
    import click

    from weighbridge.cli import main

    if not isinstance(main, click.Command):
        sys.exit(f"weighbridge.cli.main is a {type(main).__name__}, not a click command: its help cannot be written")
    return "\n\n".join(help_of(main, "weigh", None))


def help_of(command: object, name: str, parent: object) -> Iterator[str]:
    """A heading and the help of a command, then those of the commands below it, in the order of the alphabet."""
    import click

    assert isinstance(command, click.Command)
    assert parent is None or isinstance(parent, click.Context)
    settings = {**command.context_settings, "terminal_width": WIDTH, "max_content_width": WIDTH}
    context = click.Context(command, info_name=name, parent=parent, **settings)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines()).strip()
    yield f"## `{context.command_path}`\n\n```text\n{text}\n```"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            below = command.get_command(context, child)
            if below is not None and not below.hidden:
                yield from help_of(below, child, context)


@part("reference/glossary.md", "terms")
def glossary_terms() -> str:
    """Every term, in the order of the alphabet."""
    from weighbridge.claims import glossary

    return explained(sorted(glossary.terms(), key=lambda entry: entry.title.lower()))


@part("concepts/questions.md", "questions")
def asked_questions() -> str:
    """Every question with its answer."""
    from weighbridge.claims import glossary

    return explained(glossary.questions())


@part("concepts/myths.md", "myths")
def settled_myths() -> str:
    """Every myth with its verdict."""
    from weighbridge.claims import glossary

    return explained(glossary.myths())


def explained(chosen: Iterable[Entry]) -> str:
    """Entries as sections, their numbers worked out now."""
    from weighbridge.claims.glossary import explained as worked_out
    from weighbridge.show.explanations import markdown

    return "\n".join(line for entry in chosen for line in markdown(worked_out(entry)))


def filled(text: str, file: str, name: str, content: str) -> str:
    """The text of a file with one part replaced."""
    begin = f"<!-- generated: {name} -->"
    if text.count(begin) != 1 or END not in text.split(begin)[1]:
        sys.exit(f"docs/{file} needs one {begin} and an {END} after it")
    before, rest = text.split(begin)
    after = rest.split(END, 1)[1]
    return f"{before}{begin}\n\n{content.strip()}\n\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Writes or checks every part."""
    parser = argparse.ArgumentParser(description="Fill the generated parts of the documentation.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 when a file is stale")
    check = parser.parse_args(arguments).check
    stale = []
    for file in sorted({file for file, _ in PARTS}):
        path = DOCS / file
        old = new = path.read_text(encoding="utf-8")
        for (place, name), render in PARTS.items():
            if place == file:
                new = filled(new, file, name, render())
        if new != old:
            stale.append(f"docs/{file}")
            if not check:
                path.write_text(new, encoding="utf-8")
    for name in stale:
        print(f"{name}: stale, run python docs/generate.py" if check else f"{name}: written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
