"""What would an error of each weight cost a model, as its gradients on texts tell?

The divergence of a changed model from the original is, for small changes, half the sum of F * change^2, where F is the
Fisher information: the mean square of the gradient of log p(y), with y drawn from the model's own prediction and not
from the text. One pass backward for each window gives a sample of it, as labels of different places are drawn apart.
A weight's relative squared error of one then costs half the sum of F * weight^2, and F summed over rows weighs columns.
For an encoder the gradient is that of a random projection of the normalized vector of a text, which gives one minus the
cosine in the same way. S. Amari, "Natural gradient works efficiently in learning", 1998, section 3.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from weighbridge.compress.activations import gguf_names, parts_of, stored_names
from weighbridge.compress.codecs import Values
from weighbridge.compress.sensitivity import Sensitivity
from weighbridge.errors import ConfigError, UnitError
from weighbridge.formats.reader import read
from weighbridge.inspection import inspect
from weighbridge.prove.engines.transformers import TransformersModel
from weighbridge.prove.plan import Tell

WINDOWS = 64
"""Windows that are read at most, drawn from all: more change the costs by less than a hundredth."""
WINDOW = 256
"""Tokens of a window."""
MASKED = 0.15
"""Of the tokens of a window, hidden from a masked model."""
LEAST_COLUMN = 1e-4
"""Of the mean over columns that a column weighs at least: nothing that was not seen is worth nothing."""


def of_model(model: TransformersModel, texts: Sequence[str], seed: int = 0, tell: Tell | None = None) -> Sensitivity:
    """The costs of the matrices of a model, by their names in its files and by llama.cpp's.

    Args:
        model: a folder of safetensors under transformers, its weights in memory.
        texts: what it reads.
        seed: of the windows and labels that are drawn.
        tell: is told the model, how many windows were read, and of how many.

    Raises:
        UnitError: when the weights do not fit into memory.
        ConfigError: when predictions or gradients are no numbers.
    """
    torch = model.torch
    if model.is_streamed:
        raise UnitError(f"{model.path} takes more memory than there is", "weights in memory, for their gradients",
                        "make an importance matrix with `weigh imatrix`, and name it with --imatrix")  # fmt: skip
    network = model.model.float()
    parts = parts_of(model, texts, min(WINDOW, model.positions or WINDOW))
    parts = random.Random(seed).sample(parts, min(WINDOWS, len(parts)))
    torch.manual_seed(seed)
    names = stored_names(network, {tensor.name for tensor in read(model.path).tensors})
    turned = _turned(network)
    costs: dict[str, float] = {}
    columns: dict[str, Any] = {}

    def seen(weight: Any) -> None:
        name, squares = names[id(weight)], weight.grad.square()
        costs[name] = costs.get(name, 0.0) + 0.5 * float((squares * weight.detach().square()).sum(dtype=torch.float64))
        squares = squares.transpose(-1, -2) if id(weight) in turned else squares
        columns[name] = columns.get(name, 0.0) + squares.sum(dim=-2).double().numpy()
        weight.grad = None  # one gradient is held at a time

    for weight in network.parameters():
        weight.requires_grad_(weight.dim() > 1)
        if weight.dim() > 1:
            weight.register_post_accumulate_grad_hook(seen)
    count = 0
    for number, part in enumerate(parts):
        score, scored = _score(model, network, part)
        score.backward()
        count += scored
        if tell is not None:
            tell(model.path, number + 1, len(parts))
    if not all(np.isfinite(cost) for cost in costs.values()):
        raise _no_numbers(model, "the gradients")
    found = {name: cost / count for name, cost in costs.items()}
    weights = {name: _positive(each) for name, each in columns.items()}
    for name, mine in gguf_names(inspect(model.path).architecture).items():
        if all(one in found for one in mine):
            found[name] = sum(found[one] for one in mine)
            weights[name] = np.stack([weights[one] for one in mine]) if len(mine) > 1 else weights[mine[0]]
    for key in turned:  # columns are those of llama.cpp's matrix, not of the one that is stored
        weights.pop(names[key])
    unit = "1 - cosine" if "embeds" in model.abilities else "nats"
    counted = "tokens" if "reads" in model.abilities else "texts"
    return Sensitivity(found, weights, unit, f"gradients on {count:,} {counted}")


def _no_numbers(model: TransformersModel, what: str) -> ConfigError:
    return ConfigError(f"{what} of {model.path} are no numbers", "finite weights",
                       "check the file with `weigh inspect --values`")  # fmt: skip


def _positive(columns: Any) -> Values:
    columns = np.asarray(columns)
    least = LEAST_COLUMN * columns.mean(axis=-1, keepdims=True)
    return np.asarray(np.where(least > 0, np.maximum(columns, least), 1.0), dtype=np.float32)


def _turned(network: Any) -> set[int]:
    """The weights that are stored (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return {id(module.weight) for module in network.modules() if isinstance(module, Conv1D)}


def _score(model: TransformersModel, network: Any, part: Sequence[int]) -> tuple[Any, int]:
    """A number whose squared gradient is a sample of the Fisher information of a window, and of how many answers."""
    torch = model.torch
    given = torch.tensor([part])
    if "embeds" in model.abilities:
        vectors = network(input_ids=given).last_hidden_state[0]
        match model.pooling:
            case "mean":
                vector = vectors.mean(dim=0)
            case "max":
                vector = vectors.amax(dim=0)
            case other:
                vector = vectors[0 if other == "first" else -1]
        vector = torch.nn.functional.normalize(vector, dim=0)
        return (vector * torch.randn_like(vector)).sum(), 1
    if model.is_masked:
        inner = range(len(model.prefix), len(part) - (part[-1] == model.tokenizer.sep_token_id))
        hidden = random.Random(str(part)).sample(inner, max(1, int(MASKED * len(inner))))
        given[0, hidden] = model.tokenizer.mask_token_id
        logits = network(input_ids=given).logits[0, hidden]
    elif "labels" in model.abilities:
        logits = network(input_ids=given).logits
    else:
        logits = network(input_ids=given).logits[0]
    if not torch.isfinite(logits).all():
        raise _no_numbers(model, "the predictions")
    drawn = torch.multinomial(logits.detach().softmax(dim=-1), 1)[:, 0]
    return torch.nn.functional.cross_entropy(logits, drawn, reduction="sum"), len(drawn)
