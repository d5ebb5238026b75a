"""What is kept of the forward pass until the backward pass needs it?

A multiplication needs its input for the gradient of its weights, once for all that read the same; one that is frozen
needs none. Whatever its weights do, attention needs its queries, keys, values and result, a norm its input, an
activation function its input, and a product both factors. In 16 bits that is s*b*h*(34 + 5*a*s/h) bytes for a layer of
GPT with dropout and stored scores (Korthikanti et al. 2022, equation 1), of which 2 are masks of dropout.

Full checkpointing keeps the input of each layer alone, and all of one layer while it is computed again; selective keeps
what multiplications give and drops what lies between them, and attention's scores. Tensor parallelism divides what the
cut matrices read or write, sequence parallelism with it what lies between them.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Use, Weight
from weighbridge.model.tensors import Component
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import Trained

SIBLINGS = {
    **dict.fromkeys(("attention_q", "attention_k", "attention_v", "attention_qkv"), "attention inputs"),
    **dict.fromkeys(("mlp_gate", "mlp_up"), "feed-forward inputs"),
    **dict.fromkeys(("router", "experts_gate", "experts_up", "experts_gate_up"), "experts' inputs"),
}
"""Roles whose matrices read the same input."""
LAST = ("attention_output", "mlp_down", "experts_down", "shared_expert_down", "ssm_output", "time_mix_output",
        "channel_mix_value", "head", "router", "score")  # fmt: skip
"""Roles whose outputs are added to what passes through, and kept by nothing."""
ROWS = ("attention_output", "mlp_down", "experts_down", "shared_expert_down", "ssm_output")
"""Roles that tensor parallelism cuts by their inputs, the others by their outputs."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Numbers that a row of the model keeps for each token, in each of its layers.

    `divided` go over tensor parallelism, `between` only with sequence parallelism. `dropped` of them selective
    checkpointing computes again. `per_score` is for each pair of positions, in 16 bits, where attention stores scores.
    """

    path: str
    layers: int
    divided: float = 0.0
    between: float = 0.0
    dropped_divided: float = 0.0
    dropped_between: float = 0.0
    statistics: float = 0.0
    scores: float = 0.0


def kept(architecture: Architecture, held: Trained, run: Run) -> tuple[Kept, ...]:
    """What each row of the model keeps of one token, undivided.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.predict.training.trained import trained
        >>> gpt3 = inspect("gpt-3-175b").architecture
        >>> run = Run(sequence_tokens=2048, global_batch=1)
        >>> rows = kept(gpt3, trained(gpt3, run.method), run)
        >>> sum(2 * (row.divided + row.between) for row in rows if row.layers > 1) / 12288  # 34 less two masks
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
    divided = between = dropped_divided = dropped_between = statistics = 0.0
    has_gate = any(weight.role.endswith("_gate") or weight.role.endswith("gate_up") for weight in weights)
    for weight in weights:
        path = f"{placement.path}.{weight.name}".lstrip(".")
        if weight.use is Use.ELEMENTWISE and _is_norm(weight, placement):
            between += weight.elements
            statistics += 1
        if weight.use is not Use.MATMUL:
            continue
        group = SIBLINGS.get(weight.role, weight.role + weight.name)
        read, written = _sides(weight)
        rank = adapted.get(path.removesuffix(".weight"), 0.0)
        divided += rank
        owner = weight.tied_to or path
        reads = read if owner in trained or rank else 0.0
        if weight.role == "attention_output":
            reads = read  # the result of attention, which it needs itself
        inputs[group] = (max(inputs.get(group, (0.0, False))[0], reads), weight.role in ROWS)
        if weight.role in LAST:
            continue
        divided += written
        if has_gate and weight.role.endswith(("_gate", "gate_up")):
            of_gate = written / 2 if weight.role.endswith("gate_up") else written
            divided += of_gate
            dropped_divided += of_gate
    for name, (size, is_row) in inputs.items():
        if is_row:
            divided += size
            dropped_divided += 0.0 if name.startswith("attention_output") else size
        else:
            between += size
            dropped_between += size
    scores = 0.0
    if placement.block.attention_flops_per_position() and placement.component is not Component.VISION_AUDIO:
        statistics += architecture.num_heads
        scores = float(architecture.num_heads) if run.attention == "eager" else 0.0
    return Kept(placement.path, placement.repeat, divided, between, dropped_divided, dropped_between, statistics, scores)


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


def layer_input(architecture: Architecture, rows: tuple[Kept, ...]) -> float:
    """Numbers of a token that a layer reads from the one before: what full checkpointing keeps."""
    widths = [row.between for row in rows if row.layers > 1 and row.between]
    return min(widths, default=0.0)
