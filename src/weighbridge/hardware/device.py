"""What can a device do, as its maker specifies it? Memory, bandwidth, arithmetic, links, power.

Rates are peaks without sparsity. What a device reaches of them in use is measured or fitted, and stands elsewhere.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.hardware.measured import Measured

KINDS = ("gpu", "accelerator", "cpu", "soc", "npu", "phone", "board", "microcontroller")
"""`gpu` is a discrete card; `accelerator` a data-centre part that is none; `soc` shares memory among CPU and GPU."""

FORMATS = ("fp32", "bf16", "fp16", "fp8", "int8", "fp4")
"""The number formats that a device may have a rate of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One device by its maker's specification; None is unknown.

    `memory_bytes` is what it addresses, `memory_bytes_per_s` the bandwidth of it, `memory_kind` is `HBM` where it is
    that. `flops_per_s` has the dense peak of each number format that it multiplies (`fp32`, `bf16`, `fp16`, `fp8`,
    `int8`, `fp4`; a multiply-add counts two). `link_bytes_per_s` is the rate of the link between such devices, in one
    direction. `cores` are those of a CPU. `measured` is what `weigh probe` found, for this machine alone.
    """

    name: str
    title: str
    vendor: str
    kind: str
    source: str
    checked: datetime.date
    aliases: tuple[str, ...] = ()
    released: int | None = None
    memory_bytes: int | None = None
    memory_bytes_per_s: float | None = None
    memory_kind: str | None = None
    flops_per_s: Mapping[str, float] = field(default_factory=dict)
    link: str | None = None
    link_bytes_per_s: float | None = None
    tdp_w: float | None = None
    cores: int | None = None
    price_usd: float | None = None
    price_usd_per_h: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    measured: Measured | None = None

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""
        return tuple(dict.fromkeys((self.name, self.title, *self.aliases)))

    def source_of(self, fact: str) -> str:
        """Where a fact comes from."""
        return self.sources.get(fact, self.source)

    def peak_flops_per_s(self, encoding: str) -> float | None:
        """The dense peak for a number format; the next wider one that it has stands in for one that it lacks.

        Only matrix units multiply fp8 and fp4, and those multiply 16 bits too: where such a rate is known and none of
        16 bits is, that one is unknown, and the rate of fp32 outside of the matrix units does not stand in for it.

        Example:
            >>> rates = {"fp32": 20e12, "fp16": 300e12}
            >>> today = datetime.date(2026, 1, 1)
            >>> device = Device(name="a", title="A", vendor="", kind="gpu", source="", checked=today, flops_per_s=rates)
            >>> device.peak_flops_per_s("fp8"), device.peak_flops_per_s("fp32")
            (300000000000000.0, 20000000000000.0)
        """
        wider = {"fp4": ("fp4", "fp8", "bf16", "fp16", "fp32"), "fp8": ("fp8", "bf16", "fp16", "fp32"),
                 "int8": ("int8", "fp8", "bf16", "fp16", "fp32"), "bf16": ("bf16", "fp16", "fp32"),
                 "fp16": ("fp16", "bf16", "fp32"), "fp32": ("fp32",)}  # fmt: skip
        found = next((name for name in wider[encoding] if name in self.flops_per_s), None)
        if found is None or (found == "fp32" != encoding and {"fp8", "fp4"} & self.flops_per_s.keys()):
            return None
        return self.flops_per_s[found]

    def to_json(self) -> dict[str, Any]:
        """One entry of the document of `weigh devices --json`; null is unknown."""
        return {
            "name": self.name, "title": self.title, "aliases": list(self.aliases), "vendor": self.vendor,
            "kind": self.kind, "released": self.released, "memory_bytes": self.memory_bytes,
            "memory_bytes_per_s": self.memory_bytes_per_s, "memory_kind": self.memory_kind,
            "flops_per_s": dict(self.flops_per_s), "link": self.link,
            "link_bytes_per_s": self.link_bytes_per_s, "tdp_w": self.tdp_w, "cores": self.cores,
            "price_usd": self.price_usd, "price_usd_per_h": self.price_usd_per_h, "source": self.source,
            "sources": dict(self.sources), "checked": self.checked.isoformat(), "notes": list(self.notes),
        }  # fmt: skip
