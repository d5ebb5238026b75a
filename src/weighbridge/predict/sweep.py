"""How do a million plans compare? One model in one encoding over arrays of devices, batches and contexts, at once.

The numbers are those of single plans: the same functions get arrays. A sweep over models and encodings calls this once
for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.hardware.machine import Machine
from weighbridge.predict import speed
from weighbridge.predict.demand import Demand, StoredWeights
from weighbridge.predict.memory import Planner
from weighbridge.predict.service import Service


@dataclass(frozen=True, slots=True)
class Sweep:
    """One row for each machine, one column for each batch, one layer for each context; NaN where a rate is unknown.

    `needed_bytes` is that of the fullest device, `tpot_s` the middle of the interval of the time per output token.
    `fits` is NaN where the memory of a machine is unknown, else 1 or 0.
    """

    machines: tuple[Machine, ...]
    batches: tuple[int, ...]
    contexts: tuple[int, ...]
    needed_bytes: NDArray[np.float64]
    fits: NDArray[np.float64]
    tpot_s: NDArray[np.float64]

    @property
    def decode_tok_s(self) -> NDArray[np.float64]:
        """Tokens a second of one sequence."""
        return 1.0 / self.tpot_s


def sweep(
    demand: Demand,
    stored: StoredWeights,
    machines: Sequence[Machine],
    service: Service,
    batches: Sequence[int],
    contexts: Sequence[int],
) -> Sweep:
    """Memory and time per output token of each machine with each static batch at each context.

    The prompt fills a context up to the answer of the service.

    Raises:
        ConfigError: for what single plans work out in another way: closed loops, this machine as it was measured, and
            models that do not generate.

    Example:
        >>> from weighbridge.hardware.catalogue import find_device
        >>> from weighbridge.hardware.machine import machine
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.model import recipes
        >>> from weighbridge.predict.demand import demand, stored_weights
        >>> from weighbridge.predict.service import service
        >>> model = inspect("llama-3-8b").architecture
        >>> cards = [machine(find_device(name)) for name in ("rtx-3090", "h100-sxm")]
        >>> found = sweep(demand(model), stored_weights(model, recipes.find("bf16")), cards, service("vllm"),
        ...               [1, 8, 64], [1024, 8192])
        >>> found.fits.shape, found.fits[1, :, 0].tolist()
        ((2, 3, 2), [1.0, 1.0, 1.0])
    """
    generates = demand.caches or demand.recurrent_elements or demand.cross_elements
    if not service.is_static or not generates or any(machine.device.measured for machine in machines):
        read = "a closed loop, this machine, or a model that does not generate"
        raise ConfigError(read, "static batches on machines of the catalogue", "plan them one by one")
    batch = np.array(batches, dtype=np.float64)[:, None]
    context = np.array(contexts, dtype=np.float64)[None, :]
    shape = (len(machines), len(batches), len(contexts))
    needed, fits, tpot = np.zeros(shape), np.full(shape, math.nan), np.full(shape, math.nan)
    output = service.output_tokens
    prompt = np.maximum(1.0, context - output)
    for place, machine in enumerate(machines):
        planner = Planner(demand, stored, machine, service)
        needed[place] = planner.needed(context, batch, prompt)
        if machine.device.memory_bytes is not None:
            fits[place] = needed[place] <= planner.usable_bytes()
        step = speed.step(demand, stored, machine, service, batch, prompt, float(output))
        if step is not None:
            tpot[place] = step.seconds
    return Sweep(tuple(machines), tuple(batches), tuple(contexts), needed, fits, tpot)
