"""How much memory does a plan take, part by part, and what does that leave room for?

- Weights: the bytes of the tensors in their recipe, exact. Whole copies of what is not routed stand beside each other
  under data parallelism. llama.cpp keeps the token table on the host when the layers are on a card.
- State: cache cells in whole pages, keys and values in their encodings; heads that do not divide among devices are held
  by several. A window holds its tokens, in llama.cpp those of one batch of prompt more. Recurrent state stays as it is.
- Activations: llama.cpp's compute buffer is the largest of what it holds at once in a pass over a batch of the prompt:
  the logits beside the hidden states, or without flash attention the scores (`src/llama-graph.cpp`; fp32, heads x batch
  x cells).
  For other engines the hidden states of a pass and the logits of its sequences, modelled with a wide interval.
- Overhead: what an engine that captures graphs holds beside that on each device, assumed; llama.cpp holds nothing.
- The driver's share of a card is no part of the plan: it is taken off the memory that can be filled.

Needed is told apart from reserved: an engine that takes a share of the device at start takes it whatever it needs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.hardware.machine import Machine
from weighbridge.hardware.measured import Kernels
from weighbridge.model import encodings
from weighbridge.predict.demand import Demand, StoredWeights
from weighbridge.predict.service import Service

Number = Any
"""A number, or an array of them."""

MOST_CONTEXT = 1 << 30
"""The search for the largest context ends here: a model without a cache has no bound of its own."""
POWERS = 2 ** np.arange(MOST_CONTEXT.bit_length())
POINTS = 1024
"""The search narrows to a part of so many of what is left, and asks for all of them at once."""

DRIVER_BYTES = 450 * 2**20
"""What a driver and an engine's code take of a card before any tensor, about."""
SYSTEM_SHARE = {"soc": 0.75, "npu": 0.75, "phone": 0.5, "board": 0.9, "cpu": 0.95}
"""How much of a memory that a system lives in too an engine may fill, assumed: Apple's driver gives a graphics
processor two thirds to three quarters, telephones an app about half."""
GRAPH_BYTES = 600 * 2**20
"""What captured graphs and buffers of communication take of each device, about; low and high are half and twice it."""

RECURRENT_BYTES = {name: encodings.find(name).bytes_per_block for name in ("bf16", "fp32")}
"""Of an element of the recurrent state, by its encoding."""
FLASH_WIDTHS = 15
"""Hidden states of a batch that llama.cpp's compute buffer holds with flash attention, in widths of the model: 13.7 for
SmolLM2-135M and 15.8 for Gemma-3-270M, as its log says (xllamacpp 2026.10)."""
CODE_BYTES, TOKEN_BYTES = 20 * 2**20, 200
"""What the engine's code takes once a model is loaded, and each token of the vocabulary, of the same two runs."""
TORCH_BYTES = 250_000_000, 400_000_000, 900_000_000
"""What a process with torch and transformers holds without a model: 370 to 410 MB as probed, more with other builds."""
REPACKED = ("q4_0", "q4_k", "iq4_nl")
"""Encodings that llama.cpp keeps a second time for a processor, in an order that suits its kernels, at 4.5 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """The memory of one plan, of all devices together. `host_bytes` of weights and state are not on the devices.

    `fits` is None where the memory of the device is unknown. `max_context` and `max_batch` are the largest that would
    fit with everything else as it is; None without a bound, or where the memory is unknown. `room_bytes` is what the
    weights might take, with everything else at its high bound.
    """

    weights_bytes: Estimate
    state_bytes: Estimate
    activation_bytes: Estimate
    overhead_bytes: Estimate
    host_bytes: int
    host_basis: Basis
    reserved_bytes: Estimate
    capacity_bytes: int | None
    fits: bool | None
    max_context: int | None
    max_batch: int | None
    room_bytes: int | None

    @property
    def total_bytes(self) -> Estimate:
        """What the devices hold."""
        whole = self.weights_bytes
        assert whole.value is not None and whole.low is not None and whole.high is not None
        share = 1 - self.host_bytes / whole.value if whole.value else 1.0
        held = whole.times(share)
        if whole.low == whole.high:
            held = replace_value(whole, -self.host_bytes)
        return Estimate.sum([held, self.state_bytes, self.activation_bytes, self.overhead_bytes])

    def to_json(self) -> dict[str, Any]:
        """The part `memory` of the JSON contract."""
        return {
            "weights_bytes": self.weights_bytes.to_json(), "state_bytes": self.state_bytes.to_json(),
            "activation_bytes": self.activation_bytes.to_json(), "overhead_bytes": self.overhead_bytes.to_json(),
            "host_bytes": self.host_bytes, "total_bytes": self.total_bytes.to_json(),
            "reserved_bytes": self.reserved_bytes.to_json(), "capacity_bytes": self.capacity_bytes, "fits": self.fits,
            "max_context": self.max_context, "max_batch": self.max_batch,
        }  # fmt: skip


def replace_value(estimate: Estimate, more: int) -> Estimate:
    """An estimate with so much more at each of its bounds."""
    assert estimate.value is not None and estimate.low is not None and estimate.high is not None
    return replace(estimate, value=estimate.value + more, low=estimate.low + more, high=estimate.high + more)


@dataclass(frozen=True, slots=True)
class Draft:
    """A smaller model that guesses the next tokens: it has weights and a cache of its own."""

    name: str
    demand: Demand
    stored: StoredWeights


@dataclass(frozen=True, slots=True)
class Beside:
    """What lies beside the model: low-rank adapters, and a draft model."""

    adapter_bytes: int = 0
    draft: Draft | None = None


NOTHING_BESIDE = Beside()


@dataclass(frozen=True, slots=True)
class Planner:
    """A model, stored in a recipe, on a machine: its parts of memory at any context and batch."""

    demand: Demand
    stored: StoredWeights
    machine: Machine
    service: Service
    beside: Beside = NOTHING_BESIDE
    gpu_layers: int | None = None
    cpu_experts: int = 0

    def plan(self) -> MemoryPlan:
        """The memory of the service that is asked for."""
        context, sequences = self.service.context_tokens, self.service.sequences
        capacity = self.machine.capacity_bytes
        most = None if capacity is None else self._largest(lambda n: self.needed(context, n))
        if self.service.concurrency is not None and self.service.runtime.reserves is not None and most is not None:
            sequences = min(sequences, max(1, most))  # the engine lets the others wait
        return MemoryPlan(
            weights_bytes=self._weights(),
            state_bytes=self._state(context, sequences),
            activation_bytes=self.activation(context, sequences),
            overhead_bytes=self.overhead(),
            host_bytes=int(self.host_bytes(context, sequences)),
            host_basis=weakest(
                [self.stored.basis, Basis.MODELLED if self.gpu_layers is not None or self.cpu_experts else Basis.EXACT]
            ),
            reserved_bytes=self.reserved(context, sequences),
            capacity_bytes=capacity,
            fits=None if capacity is None else bool(self.needed(context, sequences) <= self.usable_bytes()),
            max_context=None if capacity is None else self._largest(lambda n: self.needed(n, self.service.sequences)),
            max_batch=most,
            room_bytes=None if capacity is None else self._room(context, sequences),
        )

    def _room(self, context: int, sequences: int) -> int:
        """Bytes that the weights might take; those on the host count with them."""
        spare = self.usable_bytes() - float(self.needed(context, sequences))
        unsure = sum(
            (one.high or 0) - (one.value or 0) for one in (self.activation(context, sequences), self.overhead())
        )
        return max(0, int(spare * self.machine.devices - unsure) + self.weights_bytes())

    def weights_bytes(self) -> int:
        """Bytes of the model's own weights, with the copies that data parallelism makes."""
        copied = self.stored.total_bytes - self.stored.expert_bytes
        return self.stored.expert_bytes + copied * self.machine.data_parallel

    def _draft_bytes(self) -> int:
        draft = self.beside.draft
        return draft.stored.total_bytes * self.machine.data_parallel if draft else 0

    def _weights(self) -> Estimate:
        """All weights as an estimate: those of the model, of adapters and of a draft model."""
        own = replace_value(self.stored.estimate(self.weights_bytes()), self.beside.adapter_bytes)
        draft = self.beside.draft
        return Estimate.sum([own, draft.stored.estimate(self._draft_bytes())]) if draft else own

    def _state(self, context: int, sequences: int) -> Estimate:
        """The state as an estimate: caches are laid out as the engine does, recurrent states as the reference does."""
        value = int(self.state_bytes(context, sequences))
        if not any(demand.recurrent_elements for demand in self._demands):
            return Estimate.exact(value, "B")
        note = "engines may keep one column less of each convolution"
        return Estimate(value, round(0.9 * value), value, "B", Basis.SPECIFIED, note)

    @property
    def host_share(self) -> float:
        """The share of the layers that stays with the processor, their state with them."""
        layers = self.demand.num_layers
        return 0.0 if self.gpu_layers is None else 1.0 - min(self.gpu_layers, layers) / layers

    @property
    def expert_share(self) -> float:
        """The share of the layers with experts that leaves these to the processor, of the layers on the card."""
        layers = self.demand.routed_layers
        return min(self.cpu_experts, layers) / layers if layers else 0.0

    def host_bytes(self, context: Number, sequences: Number) -> Number:
        """Bytes that stay with the processor: llama.cpp's token table, and layers left there with their state."""
        if not self.service.runtime.splits_layers or not self._is_card:
            return 0
        tables = self.stored.table_bytes + (self.beside.draft.stored.table_bytes if self.beside.draft else 0)
        inside = self.stored.total_bytes - self.stored.table_bytes
        left = np.rint(self.host_share * (inside + self._state_of(self.demand, context, sequences))
                       + (1 - self.host_share) * self.expert_share * self.stored.expert_bytes)  # fmt: skip
        return tables + left

    @property
    def _demands(self) -> tuple[Demand, ...]:
        return (self.demand, self.beside.draft.demand) if self.beside.draft else (self.demand,)

    def state_bytes(self, context: Number, sequences: Number) -> Number:
        """Bytes of the caches of so many sequences at this context, replicas on several devices included.

        Contexts and sequences may be arrays.

        Example:
            >>> from weighbridge.inspection import inspect
            >>> from weighbridge.hardware.catalogue import find_device
            >>> from weighbridge.hardware.machine import machine
            >>> from weighbridge.model import recipes
            >>> from weighbridge.predict.demand import demand, stored_weights
            >>> from weighbridge.predict.service import service
            >>> model = inspect("llama-2-70b").architecture
            >>> planner = Planner(demand(model), stored_weights(model, recipes.find("fp16")),
            ...                   machine(find_device("h100-sxm"), 2), service("vllm"))
            >>> planner.state_bytes(4096, 1)
            np.float64(1342177280.0)
        """
        return sum(self._state_of(demand, context, sequences) for demand in self._demands)

    def _state_of(self, demand: Demand, context: Number, sequences: Number) -> Number:
        service, tensor = self.service, self.machine.tensor_parallel
        elements: Number = 0
        for cache in demand.caches:
            copies = tensor // math.gcd(tensor, cache.heads)
            elements = elements + cache.elements_per_token * self._cells(cache.window, context) * copies
        per_element = service.cache_bytes_per_element
        recurrent = RECURRENT_BYTES[service.runtime.recurrent_encoding]
        fixed = demand.recurrent_elements * recurrent + demand.cross_elements * per_element
        return 1.0 * sequences * np.rint(elements * per_element + fixed)

    def _cells(self, window: int | None, context: Number) -> Number:
        if window is None:
            return self.service.paged(context)
        runtime = self.service.runtime
        kept = window + runtime.batched_tokens if runtime.splits_layers else window
        return self.service.paged(np.minimum(context, kept))

    def activation_bytes(self, context: Number, sequences: Number, prompt: Number | None = None) -> Number:
        """What a pass holds beside weights and state, of all devices together, at the middle of what is modelled.

        The prompt is that of the service unless another is given; all may be arrays.
        """
        draft = 0.0
        if self.beside.draft:
            small = self.beside.draft
            alone = replace(self, demand=small.demand, stored=small.stored, beside=NOTHING_BESIDE)
            draft = alone.activation_bytes(context, sequences, prompt)
        return draft + self._own_activation_bytes(context, sequences, prompt)

    def _own_activation_bytes(self, context: Number, sequences: Number, prompt: Number | None) -> Number:
        demand, runtime = self.demand, self.service.runtime
        if runtime.splits_layers:
            batch = np.minimum(runtime.batched_tokens, context)
            hidden = 4.0 * batch * demand.hidden_size
            if self._process_here:
                return FLASH_WIDTHS * hidden + 4 * sequences * demand.vocab_size
            if self.service.flash_attention:
                return (4 * batch * demand.vocab_size + hidden) * self.machine.devices
            cells: Number = 0.0
            for cache in demand.caches:
                cells = np.maximum(cells, self._cells(cache.window, context))
            scores = 4 * batch * cells * demand.num_heads + 4 * batch * cells + 4 * hidden
            whole = np.maximum(4 * batch * demand.vocab_size + hidden, scores)
            return whole * self.machine.devices
        prompt = self.service.prompt_tokens if prompt is None else prompt
        tokens = np.minimum(runtime.batched_tokens, np.maximum(prompt, 1) * sequences)
        inner = demand.dense_elements // max(1, demand.num_layers * demand.hidden_size)
        value = 2 * tokens * (6 * demand.hidden_size + inner) + 4 * sequences * demand.vocab_size
        return value * (self.machine.data_parallel * self.machine.pipeline_parallel)

    def activation(self, context: int, sequences: int) -> Estimate:
        """What a pass holds beside weights and state, of all devices together."""
        value = int(self.activation_bytes(context, sequences))
        if not self.service.runtime.splits_layers:
            note, low, high = "hidden states and logits", 0.4, 2.5
        elif self._process_here:
            note, low, high = "the compute buffer with flash attention", 0.5, 1.6
        elif self.service.flash_attention:
            note, low, high = "the compute buffer with flash attention", 0.4, 1.3
        else:
            note, low, high = "the compute buffer without flash attention", 0.7, 1.3
        return Estimate(value, round(low * value), round(high * value), "B", Basis.MODELLED, note)

    def overhead(self) -> Estimate:
        """What the engine holds of each device beside tensors."""
        if kernels := self._process_here:
            return self._process(kernels)
        if self.service.runtime.name == "transformers" and not self._is_card:
            low, middle, high = TORCH_BYTES
            return Estimate(middle, low, high, "B", Basis.ASSUMED, "torch's process")
        if self.service.runtime.reserves is None or not self._is_card:
            return Estimate(0, 0, 0, "B", Basis.ASSUMED, "none beside the process itself")
        value = GRAPH_BYTES * self.machine.devices
        return Estimate(value, value // 2, 2 * value, "B", Basis.ASSUMED, "graphs and buffers on each device")

    @property
    def _is_card(self) -> bool:
        return self.machine.device.kind in ("gpu", "accelerator")

    @property
    def _process_here(self) -> Kernels | None:
        """The engine's kernels on this machine, where what its process takes was measured."""
        found = self.machine.device.measured
        kernels = found and found.kernels_of(self.service.runtime.name)
        return kernels if kernels and kernels.process_bytes is not None else None

    def _process(self, kernels: Kernels) -> Estimate:
        """The engine's process on the machine that was measured: itself, and under llama.cpp its vocabulary.

        Pages of the file whose weights it repacked count towards its peak; the system takes them back when it needs
        them, so that they widen the interval only.
        """
        base = kernels.process_bytes
        assert base is not None
        if not self.service.runtime.splits_layers:
            return Estimate(base, round(0.7 * base), round(1.3 * base), "B", Basis.MODELLED, "the process as measured")
        base += CODE_BYTES + TOKEN_BYTES * self.demand.vocab_size
        elements = sum(one.elements for one in self.stored.read if one.encoding in REPACKED)
        copies = elements * 9 // 16
        return Estimate(base, round(0.7 * base), round(1.3 * base) + copies, "B", Basis.MODELLED,
                        "the process as measured, and its vocabulary; at most also pages that it repacked")  # fmt: skip

    def needed(self, context: Number, sequences: Number, prompt: Number | None = None) -> Number:
        """Bytes that the fullest device needs, at the middle of what is modelled; takes arrays."""
        overhead = self.overhead().value
        assert overhead is not None
        data = self.machine.data_parallel
        fullest = np.ceil(sequences / data) * data  # a replica holds whole sequences
        weights = self.weights_bytes() + self._uneven_experts() - self.host_bytes(context, fullest)
        weights = weights + self.beside.adapter_bytes + self._draft_bytes()
        split = weights + self.state_bytes(context, fullest)
        layers = self.demand.num_layers
        uneven = -(-layers // self.machine.pipeline_parallel) * self.machine.pipeline_parallel / layers
        return (split * uneven + self.activation_bytes(context, sequences, prompt) + overhead) / self.machine.devices

    def _uneven_experts(self) -> float:
        """What all devices would hold more if each held as much as the fullest, which has whole experts."""
        experts, groups = self.demand.num_experts, self.machine.expert_parallel
        return self.stored.expert_bytes * (math.ceil(experts / groups) * groups / experts - 1) if experts else 0.0

    def usable_bytes(self) -> float:
        """Bytes of a device that an engine may fill: its share, and never what the driver has."""
        memory = self.machine.device.memory_bytes
        assert memory is not None
        share = self.service.reserves or SYSTEM_SHARE.get(self.machine.device.kind, 1.0)
        return min(memory * share, memory - (DRIVER_BYTES if self._is_card else 0))

    def reserved(self, context: int, sequences: int) -> Estimate:
        """What the engine takes at start: a share of the device, or what it needs."""
        share, capacity = self.service.reserves, self.machine.capacity_bytes
        if share is None:
            needed = round(float(self.needed(context, sequences)) * self.machine.devices)
            return Estimate(needed, needed, needed, "B", Basis.MODELLED, "as much as it needs")
        if capacity is None:
            return Estimate(None, None, None, "B", Basis.MODELLED, "the memory of the device is unknown")
        value = round(share * capacity)
        return Estimate(value, value, value, "B", Basis.SPECIFIED, f"{share:.0%} of the device")

    def _largest(self, needed: Any) -> int | None:
        """The largest number for which a need fits; 0 when not even 1 does, None when there is no bound."""
        usable = self.usable_bytes()
        points = POWERS
        while True:
            fits = np.broadcast_to(needed(points) <= usable, points.shape)
            if not fits[0]:
                return 0
            if fits[-1]:
                return None
            place = int(np.argmin(fits))
            low, high = int(points[place - 1]), int(points[place])
            if high - low == 1:
                return low
            points = low + (high - low) * np.arange(min(high - low, POINTS) + 1) // min(high - low, POINTS)
