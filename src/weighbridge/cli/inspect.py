"""`weigh inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from weighbridge.cli import output
from weighbridge.errors import UnitError

if TYPE_CHECKING:
    from weighbridge.adapted import Adapted
    from weighbridge.formats.values import Values
    from weighbridge.inspection import Inspection


@click.command("inspect")
@click.argument("source")
@click.option(
    "--context", type=output.Count(), default=0, help="Positions that the token of the FLOPs count attends to."
)
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE", help="Change a setting of the config first: what if?"
)
@click.option("--base", metavar="SOURCE", help="The model that an adapter was made for, to hold it against.")
@click.option("--steps", type=click.IntRange(1), help="Denoising steps of a pipeline, to add up their FLOPs.")
@click.option("--like", metavar="FAMILY", help="Count an unknown model type as if it were this one (assumed).")
@click.option("--with-transformers", is_flag=True, help="Count in the reference class of transformers (extra `torch`).")
@click.option(
    "--tensors", "list_tensors", is_flag=True, help="List every tensor instead: name, shape, elements, encoding."
)
@click.option("--values", "read_values", is_flag=True, help="Read the weights too: range, zeros, NaN, outliers, ...")
@click.option("--svg", metavar="FILE", help="Draw the treemap of parameters.")
@click.option("--html", metavar="FILE", help="Write the whole report as one page.")
@click.option("--strict", is_flag=True, help="Exit with 1 when file and description differ.")
@output.plain_option
@output.json_option
def command(
    source: str, context: int, base: str | None, steps: int | None, pairs: tuple[str, ...], like: str | None,
    with_transformers: bool,
    list_tensors: bool, read_values: bool, svg: str | None, html: str | None, strict: bool, plain: bool, as_json: bool,
) -> None:  # fmt: skip
    """Weigh a model: parameters, bytes, state and operations.

    SOURCE is a folder of a model, an adapter or a pipeline, a config.json, a weight file (*.safetensors, *.gguf, *.pt,
    *.onnx, *.h5, *.tflite, *.npz and others) or the index of a sharded model; the https:// address of such a file; a
    name that `weigh models` lists; or a repository of a hub, org/name[@revision]. Only headers are read, unless
    --values is given.
    """
    from weighbridge.inspection import inspect, is_parameter

    inspection = inspect(source, context_tokens=context, settings=output.settings(pairs), like=like,
                         with_transformers=with_transformers)  # fmt: skip
    adapter = _adapted(inspection, base) if base is not None or inspection.format == "peft" else None
    values = _read_values(inspection, source) if read_values else None
    storage, among = None, (0, 0)
    if values is not None:
        from weighbridge.compress.sparse import storage_of

        learned = [tensor for tensor in inspection.checkpoint.tensors if is_parameter(tensor)]
        storage = storage_of(values.tensors, learned)
        among = values.among({tensor.name for tensor in learned})
    if svg is not None or html is not None:
        output.check_outputs(inspection, source, svg, html)
        _draw(inspection, svg, html)
    denoising = None if steps is None else _denoising(inspection, steps)
    if as_json:
        document = inspection.to_json()
        if adapter is not None:
            document |= {"adapter": adapter.to_json(), "reconciliation": adapter.reconciliation.to_json()}
        if denoising is not None:
            document["flops"] |= {"steps": steps, "denoising": denoising}
        if list_tensors:
            document["tensors"] = inspection.tensors_json()
        if values is not None:
            document["values"] = (
                values.to_json()
                | dict(zip(("parameters_read", "parameters_zero"), among, strict=True))
                | {"storage": None if storage is None else storage.to_json()}
            )
        output.print_json(document)
    else:
        from weighbridge.show import tables

        lines = tables.tensor_lines(inspection) if list_tensors else tables.inspection_lines(inspection)
        output.print_lines(lines)
        if adapter is not None:
            output.print_lines(tables.adapter_lines(adapter))
        if denoising is not None:
            click.echo(f"{steps} denoising steps: {denoising:,} FLOPs ({inspection.basis.value})")
        if values is not None:
            from weighbridge.show.weight_values import value_lines

            output.print_lines(value_lines(values, among, storage, every=list_tensors))
        if plain:
            from weighbridge.show.plain import inspection_lines

            output.print_plain(inspection_lines(inspection))
        for path in filter(None, (svg, html)):
            click.echo(f"wrote {path}", err=True)
    held = inspection.reconciliation if adapter is None else adapter.reconciliation
    if strict and held.status.value == "differs":
        raise SystemExit(1)


def _adapted(inspection: Inspection, base: str | None) -> Adapted:
    """An adapter beside its base: the one that was named, or the one it names itself where the catalogue has it."""
    from weighbridge.adapted import adapted
    from weighbridge.errors import UnknownNameError
    from weighbridge.formats import peft
    from weighbridge.inspection import inspect
    from weighbridge.model import catalogue

    if base is not None:
        return adapted(inspection, inspect(base))
    try:
        known = catalogue.find_model(peft.adapter_of(inspection.checkpoint).base or "")
    except UnknownNameError:
        return adapted(inspection)
    return adapted(inspection, inspect(known) if known.config else None)


def _denoising(inspection: Inspection, steps: int) -> int:
    found = inspection.denoising_flops(steps)
    if found is None:
        read = f"{inspection.source} has no denoiser whose configuration names the size of its latent"
        raise UnitError(read, "a diffusion pipeline with a UNet for --steps", "leave --steps out")
    return found


def _draw(inspection: Inspection, svg: str | None, html: str | None) -> None:
    from weighbridge import output_file
    from weighbridge.show import report, treemap

    if svg is not None:
        output_file.write_text(svg, treemap.svg(inspection))
    if html is not None:
        output_file.write_text(html, report.page(inspection))


def _read_values(inspection: Inspection, source: str) -> Values:
    from pathlib import Path

    from weighbridge.cli import here
    from weighbridge.errors import SourceError
    from weighbridge.formats import reader, values
    from weighbridge.formats.byte_source import LocalFolder, changed

    if inspection.stored is None:
        raise SourceError(
            f"{source} holds no weights", "a weight file for --values", "name the weight file or its folder"
        )
    if inspection.checkpoint.remote is not None:
        raise SourceError(
            f"the weights of {inspection.source} lie behind a network", "weights on this machine for --values",
            "download them and name their folder",
        )  # fmt: skip
    _load_numpy_in_one_thread()
    from weighbridge.compress import codecs

    folder = LocalFolder(source if Path(source).is_dir() else Path(source).parent)
    bar, length, done = here.bar(), values.bytes_to_read(inspection.checkpoint, folder), 0

    def tell(size: int) -> None:
        nonlocal done
        done += size
        if bar is not None:
            bar("bytes of weights", done, length)

    found = values.read(inspection.checkpoint, folder, codecs.decode, tell)
    if reader.read(source).digest != inspection.checkpoint.digest:  # the weights were read by the first header
        raise changed(source)
    return found


def _load_numpy_in_one_thread() -> None:
    """Matrices are small here: threads of numpy's library would wait for each other. It looks when it is loaded."""
    import os

    from weighbridge.hardware.probe import BLAS_THREADS

    unset = [name for name in BLAS_THREADS if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, "1"))
    import numpy  # noqa: F401

    for name in unset:
        del os.environ[name]
