"""What does training take on this machine's processor, under torch in fp32? Peak resident memory, and time of a step.

Tensors alone are exact: parameters, two moments of each trained one under AdamW, and the most of three moments.
At the loss: what autograd keeps, and the vocabulary three times (log-softmax and two gradients). In the last layer's
backward pass: the head's gradient, with checkpointing the layer's tensors a second time, gradients between its
products. At the update: every gradient, and the largest matrix twice (the root of the second moment and its quotient).
What autograd keeps was read from its saved-tensor hooks (tests/predict/training/test_here_torch.py does so again).
A heap that keeps holes takes more, `HEAP` by measurement.

A step is each part at what it costs here on one thread, timed alone (`hardware.torch_training`); no factor is fitted on
runs. Only decoders of plain attention, gated feed-forward and norms are described, and only one device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.torch_training import TrainingRates
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use
from weighbridge.model.blocks.attention import Attention
from weighbridge.model.blocks.embedding import Embedding
from weighbridge.model.blocks.feed_forward import FeedForward
from weighbridge.model.blocks.linear import Linear
from weighbridge.model.blocks.norm import Norm
from weighbridge.model.tensors import Component
from weighbridge.predict.training.memory import TrainingMemory
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import Trained

NUMBER_BYTES = 4
LOGITS = 3
"""Arrays of the vocabulary at the start of the backward pass: log-softmax, its gradient, that of the logits."""
SPREAD_MEMORY, SPREAD_TIME = 0.10, 0.15
"""Half of the 90% interval in logarithms: benchmarks/trained_here.json."""
HEAP = (1.45, 1.1, 2.1)
"""What a process took over that, under glibc's malloc as it is: the middle and the ends of what the small models of
benchmarks/trained_here.json did, 1.09 to 1.98. A freed tensor leaves a hole that the next aligned one of its size does
not fit into. `MALLOC_MMAP_THRESHOLD_=1048576` returns freed tensors to the system, and a step takes longer."""
RUNTIME_BYTES = 30_000_000
"""What torch takes once it trains, beside tensors, where it was not measured: code read in, buffers of products."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """Bytes of a training process beside what it had when everything was imported, by part; the parts are tensors.

    `kept` is what autograd holds at the loss, `loss` the arrays of the vocabulary. `peak` is the most at any moment,
    with `runtime`, and no sum of the parts. It is what a process takes where freed tensors go back to the system;
    `peak_with_holes` is the same under glibc's heap, which keeps them.
    """

    weights: int
    gradients: int
    optimizer: int
    kept: int
    loss: int
    runtime: int
    peak: Estimate
    peak_with_holes: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A decoder's layer by its sizes, and what a method changes in it."""

    hidden_size: int
    inner_size: int
    query_size: int
    kv_size: int
    num_heads: int
    num_layers: int
    matrices: int
    adapter_sides: int
    kept: int
    """Elements of a token that are kept for the backward pass."""


def resident(architecture: Architecture, trained: Trained, run: Run, runtime_bytes: int | None = None) -> Resident:
    """What the process holds at most while it trains on its processor, weights and states in fp32.

    Raises:
        UnitError: when the run or the model is none that is described here.
    """
    layer = _layer(architecture, trained, run)
    tokens = run.micro_batch * run.sequence_tokens
    weights = trained.total * NUMBER_BYTES
    gradients = trained.trainable * NUMBER_BYTES
    optimizer = round(trained.trainable * run.optimizer.state_bytes)
    vocabulary, head_trained = _head(architecture, trained)
    full = run.checkpointing == "full"
    between = layer.hidden_size * (3 if head_trained else 1) + 1  # the last norm's two, the head's input
    kept = tokens * NUMBER_BYTES * (layer.num_layers * (layer.hidden_size if full else layer.kept) + between)
    loss = LOGITS * tokens * vocabulary * NUMBER_BYTES
    head = vocabulary * layer.hidden_size * NUMBER_BYTES if head_trained else 0
    again = layer.kept * tokens * NUMBER_BYTES if full else 0
    gradients_between = (3 * layer.inner_size + 2 * layer.hidden_size) * tokens * NUMBER_BYTES
    largest = max(math.prod(row.shape) for row in trained.rows if row.is_trained) * NUMBER_BYTES
    most = max(kept + loss, kept + head + again + gradients_between, gradients + 2 * largest)
    runtime = RUNTIME_BYTES if runtime_bytes is None else runtime_bytes
    peak = weights + optimizer + most + runtime
    return Resident(weights=weights, gradients=gradients, optimizer=optimizer, kept=kept, loss=loss, runtime=runtime,
                    peak=_interval(peak, SPREAD_MEMORY, "bytes", "tensors as autograd keeps them"),
                    peak_with_holes=Estimate(peak * HEAP[0], peak * HEAP[1], peak * HEAP[2], "bytes", Basis.MODELLED,
                                             "the heap's holes as small models left them"))  # fmt: skip


def step_seconds(architecture: Architecture, trained: Trained, run: Run, rates: TrainingRates) -> Estimate:
    """Seconds of one step on one thread.

    Raises:
        UnitError: when the run or the model is none that is described here.
    """
    layer = _layer(architecture, trained, run)
    vocabulary, head_trained = _head(architecture, trained)
    tokens = run.micro_batch * run.sequence_tokens
    full = run.checkpointing == "full"
    own = sum(row.elements for row in trained.rows
              if row.is_trained and not row.is_adapter and _is_layers_matrix(row.use, row.component))  # fmt: skip
    matrices = layer.num_layers * layer.matrices
    passes = matrices * (3 if full else 2) + own + vocabulary * layer.hidden_size * (3 if head_trained else 2)
    scores = layer.num_layers * layer.query_size * run.sequence_tokens / 2
    attention = scores * (rates.forward_score_ps * (2 if full else 1) + rates.backward_score_ps)
    again = 4 / 3 if full else 1.0
    between = layer.num_layers * _all_kept(layer) * rates.element_ps * again
    adapters = layer.num_layers * layer.adapter_sides * rates.adapter_ps * again
    a_token = passes * rates.product_ps + attention + between + adapters + vocabulary * rates.logit_ps
    picoseconds = run.accumulation * tokens * a_token + trained.trainable * rates.update_ps
    return _interval(picoseconds * 1e-12, SPREAD_TIME, "s", "from parts of a step timed on this machine, one thread")


def memory(
    architecture: Architecture, trained: Trained, run: Run, rates: TrainingRates | None, capacity_bytes: int | None
) -> TrainingMemory:
    """What `resident` says, as the memory of a device. The high end is that of a heap that keeps holes.

    Raises:
        UnitError: when the run or the model is none that is described here.
    """
    found = resident(architecture, trained, run, None if rates is None else rates.runtime_bytes)
    peak, holes = found.peak, found.peak_with_holes.high
    assert peak.high is not None and holes is not None
    kept = _interval(found.kept + found.loss, SPREAD_MEMORY, "B", "kept by autograd, and the arrays of the vocabulary")
    return TrainingMemory(
        weights_bytes=Estimate.exact(found.weights, "B"), gradients_bytes=Estimate.exact(found.gradients, "B"),
        optimizer_bytes=Estimate.exact(found.optimizer, "B"), activation_bytes=kept,
        overhead_bytes=_interval(found.runtime, SPREAD_MEMORY, "B", "what torch takes once it trains"),
        per_device_bytes=Estimate(peak.value, peak.low, max(peak.high, holes), "B", Basis.MODELLED,
                                  "the high end is that of a heap that keeps holes, as glibc's does"),
        capacity_bytes=capacity_bytes,
    )  # fmt: skip


def why_not(architecture: Architecture, run: Run) -> str | None:
    """What of a run or a model is not described here; None when all is."""
    attentions, feeds = _blocks(architecture)
    known = Attention | FeedForward | Norm | Embedding | Linear
    plain = all(isinstance(placement.block, known) for placement in architecture.placements)
    if not plain or len(attentions) != 1 or len(feeds) != 1 or feeds[0].gate is None:
        return f"the family {architecture.family} is no decoder of plain attention, gated feed-forward and norms alone"
    if run.method.name not in ("full", "lora") or run.optimizer.name != "adamw" or run.precision != "fp32":
        return f"{run.method.name} training in {run.precision} with {run.optimizer.name} was not timed here"
    if run.layout.devices != 1 or run.checkpointing == "selective":
        return f"{run.layout.devices} devices with {run.checkpointing} checkpointing were not timed here"
    return None


def _blocks(architecture: Architecture) -> tuple[list[Attention], list[FeedForward]]:
    blocks = [placement.block for placement in architecture.placements]
    return ([block for block in blocks if isinstance(block, Attention)],
            [block for block in blocks if isinstance(block, FeedForward)])  # fmt: skip


def _layer(architecture: Architecture, trained: Trained, run: Run) -> _Layer:
    refused = why_not(architecture, run)
    if refused is not None:
        raise UnitError(refused, "a gated decoder, full or lora, adamw, fp32, one device, checkpointing none or full",
                        "plan it on a device of the catalogue")  # fmt: skip
    (attention,), (feed,) = _blocks(architecture)
    query, kv = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
    hidden, inner = feed.hidden_size, feed.intermediate_size
    learning = {row.role for row in trained.rows if row.is_trained}
    adapters = [row for row in trained.rows if row.is_adapter]
    ranks = run.method.rank * len({row.role for row in adapters})
    norms = 2 * (hidden + 1) + sum(hidden for role in ("attention_norm", "mlp_norm") if role in learning)
    inputs = hidden * bool(learning & {"attention_q", "attention_k", "attention_v"})
    inputs += hidden * bool(learning & {"mlp_gate", "mlp_up"}) + inner * ("mlp_down" in learning)
    sequence = run.sequence_tokens
    if run.attention == "eager":  # keys and values repeated for each head, and the scores
        heads = 4 * query + attention.num_heads * sequence
    else:
        heads = 2 * query + 2 * kv + attention.num_heads
    return _Layer(
        hidden_size=hidden, inner_size=inner, query_size=query, kv_size=kv, num_heads=attention.num_heads,
        num_layers=architecture.num_layers,
        matrices=hidden * (2 * query + 2 * kv) + 3 * hidden * inner,
        adapter_sides=sum(row.elements for row in adapters) // (run.method.rank * architecture.num_layers),
        kept=norms + inputs + heads + 3 * inner + ranks,
    )  # fmt: skip


def _all_kept(layer: _Layer) -> int:
    """What a layer keeps of a token when all of it is trained; the work between its products grows with it."""
    return 6 * layer.hidden_size + 2 * layer.query_size + 2 * layer.kv_size + 4 * layer.inner_size + layer.num_heads + 2


def _head(architecture: Architecture, trained: Trained) -> tuple[int, bool]:
    """Rows of the head, and whether it is trained; a tied one is the table."""
    role = "token_embedding" if architecture.tie_embeddings else "head"
    row = next(row for row in trained.rows if row.role == role)
    return row.shape[0], row.is_trained


def _is_layers_matrix(use: Use, component: Component) -> bool:
    return use is Use.MATMUL and component in (Component.ATTENTION, Component.MLP)


def _interval(value: float, spread: float, unit: str, note: str) -> Estimate:
    return Estimate(value, value * math.exp(-spread), value * math.exp(spread), unit, Basis.MODELLED, note)
