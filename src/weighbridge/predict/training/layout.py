"""How is a training run spread over devices? Which dimension of the work each group of them splits.

Devices = data x tensor x pipeline x context. Data parallelism runs copies on other sequences, ZeRO (or FSDP) divides
what the copies hold: optimizer states from stage 1, gradients from 2, weights from 3 (Rajbhandari et al. 2020). Tensor
parallelism cuts every matrix (Shoeybi et al. 2019), with sequence parallelism also what lies between them (Korthikanti
et al. 2022). Pipeline parallelism cuts the layers, context parallelism the sequence, expert parallelism spreads the
routed experts over devices that share the other work.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The sizes of the groups. `expert` groups lie within data and context parallelism.

    `offload` says where optimizer states (and, with `offload_weights`, weights) wait while they are not used: `none`,
    `cpu` or `nvme`.
    """

    data: int = 1
    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    expert: int = 1
    zero: int = 0
    sequence_parallel: bool = True
    offload: str = "none"
    offload_weights: bool = False

    @property
    def devices(self) -> int:
        """How many devices it needs.

        Example:
            >>> Layout(data=4, tensor=8, pipeline=2).devices
            64
        """
        return self.data * self.tensor * self.pipeline * self.context
