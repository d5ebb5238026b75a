"""How is a training run spread over devices? Which dimension of the work each group of them splits.

Devices = data x tensor x pipeline x context. Data parallelism runs copies on other sequences, ZeRO (or FSDP) divides
what the copies hold: optimizer states from stage 1, gradients from 2, weights from 3 (Rajbhandari et al. 2020). Tensor
parallelism cuts every matrix (Shoeybi et al. 2019), with sequence parallelism also what lies between them (Korthikanti
et al. 2022). Pipeline parallelism cuts the layers, context parallelism the sequence, expert parallelism spreads the
routed experts over devices that share the other work.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from weighbridge.model.architecture import Architecture

if TYPE_CHECKING:
    from weighbridge.predict.training.run import Run


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

    def to_json(self) -> dict[str, Any]:
        """The part `layout` of a document."""
        return asdict(self)


def refusal(architecture: Architecture, layout: Layout, run: Run) -> str | None:
    """Why a layout cannot be, in numbers; None where nothing speaks against it.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.predict.training.run import Run
        >>> run = Run(sequence_tokens=2048, global_batch=8)
        >>> refusal(inspect("llama-2-7b").architecture, Layout(tensor=3), run)
        '32 heads do not divide among 3 devices that share each matrix'
    """
    heads, groups, layers = architecture.num_heads, architecture.num_kv_heads, architecture.num_layers
    experts, tensor = architecture.num_experts, layout.tensor
    if heads and heads % tensor:
        return f"{heads} heads do not divide among {tensor} devices that share each matrix"
    if groups and groups % tensor and tensor % groups:
        return f"{groups} heads of keys and values do not divide among {tensor} devices that share each matrix"
    if layout.pipeline > max(1, layers):
        return f"{layers} layers are fewer than {layout.pipeline} stages"
    if layers % layout.pipeline and (layers + 2) % layout.pipeline:  # table and head may stand for a layer each
        return f"{layers} layers do not divide among {layout.pipeline} stages"
    if layout.expert > 1 and not experts:
        return "expert parallelism for a model without experts"
    if experts and experts % layout.expert:
        return f"{experts} experts do not divide among {layout.expert} groups"
    if (layout.data * layout.context) % layout.expert:
        return f"{layout.expert} groups of experts do not divide {layout.data * layout.context} devices of a layer"
    if run.sequence_tokens % layout.context:
        return f"{run.sequence_tokens} tokens of a sequence do not divide among {layout.context} devices"
    if run.global_batch % (run.micro_batch * layout.data):
        return (f"{run.global_batch} sequences of a step do not divide into micro-batches of {run.micro_batch} on "
                f"{layout.data} copies")  # fmt: skip
    if layout.zero >= 2 and layout.pipeline > 1:
        return f"ZeRO {layout.zero} with {layout.pipeline} stages, each of whose micro-batches would move all gradients"
    return None
