"""Is what `weigh shrink` chooses better than one encoding for all, and than llama.cpp's Q4_K_M, at the same bytes?

    python benchmarks/allocation.py [CACHE] [--only NAME] [--shares FOLDER ...]

On five models whose weights were never quantized (`bases.py`) every matrix is encoded and decoded again, and what the
model then says of texts that were held out is compared with what it said before: the divergence of its predictions of
the next or of a hidden token, or one minus the cosine of its vectors, and for encoders how many of a text's ten nearest
neighbours stay. Both rivals have what they are known for: groups of 64 with symmetric integers of 4 bits and a scale in
fp16, rounded to the nearest, for all matrices; and the mix Q4_K_M as llama.cpp's quantizer lays it out, without an
importance matrix. Ours has at most their bytes, once without data and once with gradients on the calibration texts.
Needs torch and transformers. Prints a table in Markdown; intervals are 95%, from resampled texts, paired.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this file is run as a script; its neighbours are the package `benchmarks`

from benchmarks.bases import Base, bases  # noqa: E402

from weighbridge.compress import gradients, plan, targets  # noqa: E402
from weighbridge.compress.activations import parts_of, stored_names  # noqa: E402
from weighbridge.compress.codecs import Values, decode, encode  # noqa: E402
from weighbridge.compress.folder_source import FolderSource  # noqa: E402
from weighbridge.compress.plan import Option  # noqa: E402
from weighbridge.compress.sensitivity import Sensitivity, by_role, completed, role_of  # noqa: E402
from weighbridge.inspection import inspect  # noqa: E402
from weighbridge.model import recipes  # noqa: E402
from weighbridge.model.encodings import Encoding  # noqa: E402
from weighbridge.model.tensors import TensorSpec  # noqa: E402
from weighbridge.prove.engines import open_model  # noqa: E402
from weighbridge.prove.engines.transformers import TransformersModel  # noqa: E402

GROUP, WINDOW, NEIGHBOURS, HIDDEN_EVERY = 64, 256, 10, 24
RESAMPLED = 2000


class Matrices:
    """The matrices of a folder under their own names, as what is written is seen by the plan."""

    alignment = 1

    def __init__(self, folder: Path) -> None:
        source = FolderSource(folder)
        architecture = inspect(folder).architecture
        assert architecture is not None
        roles = {tensor.name.rpartition(".")[0]: tensor.role for tensor in architecture.tensors()}
        self.rows, self.path = source.rows, folder
        self.tensors = [
            TensorSpec(one.name, one.shape, one.encoding, _role(one.name, roles), file=one.file,
                       byte_range=one.byte_range)
            for one in source.tensors if len(one.shape) == 2 and one.encoding.is_float]  # fmt: skip
        self.mix = {}
        for assigned in recipes.find("q4_k_m").pack(architecture).assignments if architecture.gguf_architecture else ():
            group = assigned.group
            for layer in assigned.layers if assigned.layers is not None else group.layers or (None,):
                self.mix[group.name.format(layer=layer, expert=0)] = assigned.encoding


def _role(name: str, roles: Mapping[str, str]) -> str:
    module = name.rpartition(".")[0]
    return next((role for path, role in roles.items() if path == module or path.endswith(f".{module}")), "")


def opened(folder: Path) -> TransformersModel:
    """A folder under transformers."""
    model = open_model(folder)
    assert isinstance(model, TransformersModel)
    return model


class Judge:
    """A model, and what it says of the texts that were held out."""

    def __init__(self, base: Base) -> None:
        self.model = opened(base.folder)
        self.torch = self.model.torch
        self.network = self.model.model.float()
        names = stored_names(self.network, {tensor.name for tensor in FolderSource(base.folder).tensors})
        self.weights = {names[id(one)]: one for one in self.network.parameters()}
        self.parts = parts_of(self.model, base.held_out, min(WINDOW, self.model.positions or WINDOW))
        self.whole = {name: one.detach().clone() for name, one in self.weights.items()}
        self.said = [self._says(part) for part in self.parts]

    def _says(self, part: list[int]) -> Any:
        torch, model = self.torch, self.model
        given = torch.tensor([part])
        with torch.inference_mode():
            if "embeds" in model.abilities:
                vectors = self.network(input_ids=given).last_hidden_state[0]
                return torch.nn.functional.normalize(vectors.mean(dim=0), dim=0)
            if model.is_masked:
                places = range(1, len(part) - 1, HIDDEN_EVERY)
                rows = given.repeat(len(places), 1)
                rows[range(len(places)), list(places)] = model.tokenizer.mask_token_id
                logits = self.network(input_ids=rows).logits[range(len(places)), list(places)]
            else:
                logits = self.network(input_ids=given).logits[0]
            return logits.log_softmax(dim=-1)

    def losses(self, changed: Mapping[str, Values]) -> tuple[NDArray[np.float64], float | None]:
        """The loss of each text with other weights, and the share of nearest neighbours that stayed."""
        torch = self.torch
        with torch.no_grad():
            for name, values in changed.items():
                if name in self.weights:  # a pooler may lie in the files and be none of the network's
                    self.weights[name].copy_(torch.from_numpy(values))
        now = [self._says(part) for part in self.parts]
        with torch.no_grad():
            for name in changed.keys() & self.weights.keys():
                self.weights[name].copy_(self.whole[name])
        if self.said[0].dim() == 1:
            before, after = torch.stack(self.said), torch.stack(now)
            kept = [_nearest(some) for some in (before, after)]
            same = np.mean([len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(*kept, strict=True)])
            return (1 - (before * after).sum(dim=1)).double().numpy(), float(same)
        return np.array([float((p.exp() * (p - q)).sum(dim=-1).mean())
                         for p, q in zip(self.said, now, strict=True)]), None  # fmt: skip


def _nearest(vectors: Any) -> list[list[int]]:
    close = vectors @ vectors.T
    close.fill_diagonal_(-2)
    found: list[list[int]] = close.topk(NEIGHBOURS).indices.tolist()
    return found


def grouped(values: Values) -> Values:
    """Integers of 4 bits with a scale in fp16 for each 64 weights of a row, rounded to the nearest."""
    parts = values.reshape(-1, GROUP)
    scales = (np.abs(parts).max(axis=1, keepdims=True) / 7).astype(np.float16).astype(np.float32)
    scales[scales == 0] = 1
    return np.asarray(np.clip(np.round(parts / scales), -8, 7) * scales, dtype=np.float32).reshape(values.shape)


def as_encoded(source: Matrices, chosen: Mapping[str, Encoding], costs: Sensitivity | None) -> dict[str, Values]:
    """The matrices after they were encoded and decoded."""
    found = {}
    for tensor in source.tensors:
        if chosen[tensor.name] != tensor.encoding:
            values, columns = source.rows(tensor, 0, tensor.shape[0]), tensor.shape[1]
            importance = None if costs is None else costs.columns.get(tensor.name)
            found[tensor.name] = decode(encode(values, chosen[tensor.name], importance), chosen[tensor.name], columns)
    return found


def bytes_of(source: Matrices, chosen: Mapping[str, Encoding]) -> int:
    """Bytes of the matrices in these encodings."""
    return sum(chosen[tensor.name].size_bytes(tensor.shape) for tensor in source.tensors)


def ours(source: Matrices, options: Mapping[str, tuple[Option, ...]], budget: int) -> tuple[dict[str, Encoding], float]:
    """The choice within a budget, and what it is expected to lose."""
    chosen = plan.knapsack(list(options.values()), budget)
    return ({name: one.encoding for name, one in zip(options, chosen, strict=True)}, sum(one.loss for one in chosen))


def cut(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> tuple[float, float, float]:
    """By how much less of the loss ours has, in percent, with its interval."""
    drawn = np.random.default_rng(0).integers(len(mine), size=(RESAMPLED, len(mine)))
    shares = 100 * (1 - mine[drawn].mean(axis=1) / theirs[drawn].mean(axis=1))
    low, high = np.quantile(shares, (0.025, 0.975))
    return 100 * (1 - mine.mean() / theirs.mean()), float(low), float(high)


def rows_of(base: Base) -> None:
    """Prints what was measured of a model."""
    source, judge = Matrices(base.folder), Judge(base)
    fixed = [one for one in source.tensors if role_of(one) in targets.KEPT or one.shape[1] % GROUP]
    whole = {one.name: one.encoding for one in source.tensors}
    rivals: dict[str, tuple[dict[str, Values], int]] = {}
    even = {one.name: grouped(source.rows(one, 0, one.shape[0])) for one in source.tensors if one not in fixed}
    size = sum(one.elements * (4 * GROUP + 16) // (8 * GROUP) for one in source.tensors if one.name in even)
    rivals["groups of 64"] = even, size + sum(one.size_bytes for one in fixed)
    if source.mix:
        mix = {**whole, **{name: one for name, one in source.mix.items() if name in whole}}
        mix |= {one.name: one.encoding for one in source.tensors if role_of(one) in targets.KEPT}
        rivals["Q4_K_M"] = as_encoded(source, mix, None), bytes_of(source, mix)
    learned = gradients.of_model(opened(base.folder), base.calibration)
    ways = {"roles": by_role(source.tensors), "gradients": completed(source.tensors, learned)}
    options = {name: targets.gguf_options(source, costs) for name, costs in ways.items()}  # type: ignore[arg-type]
    for rival, (values, size) in rivals.items():
        theirs, stayed = judge.losses(values)
        print(
            f"| {base.name} | {base.measure} | {rival} | {size:,} | {_number(theirs.mean())} | | {_share(stayed)} | |"
        )
        for way, costs in ways.items():
            chosen, expected = ours(source, options[way], size)
            mine, stayed = judge.losses(as_encoded(source, chosen, costs))
            less, low, high = cut(mine, theirs)
            told = _number(expected) if costs.unit is not None else ""
            cells = f"{bytes_of(source, chosen):,} | {_number(mine.mean())} | {told} | {_share(stayed)}"
            print(f"| | | ours, {way} | {cells} | {less:.0f}% ({low:.0f} to {high:.0f}) |", flush=True)


def _number(value: float) -> str:
    return f"{value:.{max(0, 2 - math.floor(math.log10(value)))}f}" if value > 0 else "0"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def shares_of(folder: Path, texts: Sequence[str]) -> None:
    """Prints the cost of each role, all layers together, over that of all layers."""
    source = Matrices(folder)
    learned = gradients.of_model(opened(folder), texts)
    found: dict[str, float] = defaultdict(float)
    for tensor in source.tensors:
        found[role_of(tensor)] += learned.costs.get(tensor.name, 0.0)
    layers = sum(cost for role, cost in found.items() if role not in ("token_embedding", "head", *targets.KEPT))
    print(folder.name, {role: round(cost / layers, 3) for role, cost in found.items()})


def main() -> None:
    """Measures all models."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cache", nargs="?", default="build/bases", type=Path)
    parser.add_argument("--only", help="one model")
    parser.add_argument("--shares", nargs="+", type=Path, metavar="FOLDER", help="print the costs by role instead")
    asked = parser.parse_args()
    if asked.shares:
        texts = next(bases(asked.cache)).calibration
        for folder in asked.shares:
            shares_of(folder, texts)
        return
    print("| model | measured | way | bytes | loss | expected | neighbours kept | less than the rival |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for base in bases(asked.cache):
        if asked.only in (None, base.name):
            rows_of(base)


if __name__ == "__main__":
    main()
