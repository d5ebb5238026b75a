"""What is kept of the forward pass until the backward pass needs it?

A multiplication needs its input for the gradient of its weights, once for all that read the same; one that is frozen
needs none. Whatever its weights do, attention needs its queries, keys, values and result, a norm its input, an
activation function its input, and a product both factors. In 16 bits that is s*b*h*(34 + 5*a*s/h) bytes for a layer of
GPT with dropout and stored scores (Korthikanti et al. 2022, equation 1), of which 2 are masks of dropout.

PyTorch works norms that are only scaled (RMSNorm) out of plain operations: in 16 bits they keep their input in 32, and
the normalised input where the scale is trained. Fused kernels keep the input alone, and work out the activation
function again. Dropout before adapters gives each its own input, with a mask of a byte.

Full checkpointing keeps the input of each layer alone, and all of one layer while it is computed again. Selective drops
attention's scores where they are stored (section 5 there). Under flash attention, which stores none, it goes by
operation: a layer keeps its input, attention's result and what every second multiplication writes, and computes the
others again (torchtitan's policy). Tensor parallelism divides what the cut matrices read or write, sequence parallelism
with it what lies between them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Use, Weight
from weighbridge.model.tensors import Component
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import SIBLINGS, Trained

LAST = ("attention_output", "mlp_down", "experts_down", "shared_expert_down", "ssm_output", "time_mix_output",
        "channel_mix_value", "head", "router", "score")  # fmt: skip
"""Roles whose outputs are added to what passes through, and kept by nothing."""
ROWS = ("attention_output", "mlp_down", "experts_down", "shared_expert_down", "ssm_output")
"""Roles that tensor parallelism cuts by their inputs, the others by their outputs."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Numbers that a row of the model keeps for each token, in each of `layers`; once where those are None.

    `divided` go over tensor parallelism, `between` only with sequence parallelism; `wide` of the latter are in 32 bits.
    `statistics` are in 32 bits too. `scores` are for each pair of positions, where attention stores them; `masks` take
    a byte each. `written` is what its multiplications write, and `result` attention's: the choice of selective
    checkpointing by operation.
    """

    path: str
    layers: Sequence[int] | None
    divided: float = 0.0
    between: float = 0.0
    statistics: float = 0.0
    scores: float = 0.0
    masks: float = 0.0
    wide: float = 0.0
    written: float = 0.0
    result: float = 0.0


def kept(architecture: Architecture, held: Trained, run: Run) -> tuple[Kept, ...]:
    """What each row of the model keeps of one token, undivided.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.predict.training.trained import trained
        >>> gpt3 = inspect("gpt-3-175b").architecture
        >>> run = Run(sequence_tokens=2048, global_batch=1)
        >>> rows = kept(gpt3, trained(gpt3, run.method), run)
        >>> sum(2 * (row.divided + row.between) for row in rows if row.layers) / 12288  # 34 less two masks
        32.0
    """
    trained = {row.path for row in held.rows if row.is_trained and not row.is_adapter}
    adapters = [row for row in held.rows if row.is_adapter and row.path.endswith(".lora_A")]
    adapted = {row.path.removesuffix(".lora_A"): float(row.shape[0]) for row in adapters}
    return tuple(
        _row(architecture, placement, trained, adapted, run)
        for placement in architecture.placements
        if not placement.mtp and architecture.per_token(placement.component)
    )


def _row(
    architecture: Architecture, placement: Placement, trained: set[str], adapted: dict[str, float], run: Run
) -> Kept:
    weights = [weight for weight in placement.block.weights()
               if architecture.per_token(placement.component or weight.component)]  # fmt: skip
    inputs: dict[str, tuple[float, bool]] = {}
    divided = between = statistics = masks = wide = all_written = result = 0.0
    read_down = max((_sides(weight)[0] for weight in weights if weight.role.endswith("_down")), default=0.0)
    written_up = sum(_sides(weight)[1] for weight in weights if weight.role.endswith(("_gate", "_up")))
    is_gated = read_down > 0 and round(written_up) == round(2 * read_down)
    biased = {weight.name.rpartition(".")[0] for weight in weights if weight.name.endswith("bias")}
    is_eager = run.kernels == "eager"
    for weight in weights:
        path = f"{placement.path}.{weight.name}".lstrip(".")
        if weight.use is Use.ELEMENTWISE and _is_norm(weight, placement):
            between += weight.elements
            has_mean = weight.name.rpartition(".")[0] in biased
            statistics += 2 if has_mean else 1
            if is_eager and not has_mean:
                wide += weight.elements
                between += weight.elements if path in trained else 0.0
        if weight.use is not Use.MATMUL:
            continue
        group = SIBLINGS.get(weight.role, weight.role + weight.name)
        read, written = _sides(weight)
        rank = adapted.get(path.removesuffix(".weight"), 0.0)
        divided += rank
        owner = weight.tied_to or path
        drops = rank > 0 and run.method.dropout > 0
        keeps = run.method.keeps_inputs and run.method.frozen_encoding is not None and placement.layers is not None
        reads = read if owner in trained or (rank and not drops) or keeps else 0.0
        if weight.role == "attention_output":
            reads = read  # the result of attention, which it needs itself
            result = read
        all_written += written if placement.layers is not None else 0.0
        inputs[group] = (max(inputs.get(group, (0.0, False))[0], reads), weight.role in ROWS)
        if drops:
            masks += read
            divided += read if weight.role in ROWS else 0.0
            between += 0.0 if weight.role in ROWS else read
        if weight.role not in LAST:
            divided += written
    if is_gated and is_eager:
        divided += read_down
    for size, is_row in inputs.values():
        divided += size if is_row else 0.0
        between += 0.0 if is_row else size
    scores = 0.0
    if placement.block.attention_flops_per_position() and placement.component is not Component.VISION_AUDIO:
        if run.attention == "eager":
            scores = float(architecture.num_heads)
        else:
            statistics += architecture.num_heads
    layers = None
    if placement.layers is not None:
        layers = tuple(placement.offset + layer for layer in placement.layers)
    return Kept(placement.path, layers, divided, between, statistics, scores, masks, wide,
                all_written, result)  # fmt: skip


def _is_norm(weight: Weight, placement: Placement) -> bool:
    name = f"{placement.path}.{weight.name}"
    return len(weight.shape) == 1 and not name.endswith("bias") and (
        weight.component is Component.NORM or "norm" in weight.role)  # fmt: skip


def _sides(weight: Weight) -> tuple[float, float]:
    """Numbers that a token's multiplication reads and writes, of all experts that it uses."""
    one = weight.elements / weight.stacked
    inputs = weight.in_features
    outputs = one / inputs
    if weight.role == "convolution":
        outputs = weight.shape[0]
        inputs = outputs if weight.shape[1] == 1 else weight.shape[1]
    return weight.active * inputs * weight.positions, weight.active * outputs * weight.positions


def layer_input(architecture: Architecture) -> float:
    """Numbers of a token that a layer reads from the one before: what full checkpointing keeps.

    The width of the token table where norms of layers have it or no scales, else the one that most scales have;
    0 where neither is there, as in networks of convolutions.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> layer_input(inspect("qwen3-8b").architecture)
        4096
    """
    widths: Counter[int] = Counter()
    tables = set()
    for group in architecture.groups:
        weight = group.weight
        if weight.role == "token_embedding":
            tables.add(weight.shape[-1])
        elif not weight.shape or group.layers is None or group.mtp or not architecture.per_token(group.component):
            continue
        elif group.component is Component.NORM or "norm" in weight.role:
            widths[weight.shape[-1]] += weight.shape[-1] * len(group.layers)
    known = tables & widths.keys() or widths.keys() or tables
    return max(known, key=lambda width: widths[width], default=0)
