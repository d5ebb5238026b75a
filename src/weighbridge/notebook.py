"""How does a result show itself in a notebook? As the table and the picture that the page has.

Notebooks ask an object for `_repr_html_`. The engine's `Inspection` does not draw; this library door hands out one that
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from weighbridge import inspection
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.model.catalogue import NamedModel


@dataclass(frozen=True)
class Inspection(inspection.Inspection):
    """An inspection that notebooks draw."""

    def _repr_html_(self) -> str:
        from weighbridge.show import report

        return report.fragment(self)


def inspect(
    source: str | Path | Mapping[str, Any] | Checkpoint | NamedModel,
    *,
    context_tokens: int = 0,
    settings: Mapping[str, Any] | None = None,
    like: str | None = None,
    with_transformers: bool = False,
) -> Inspection:
    """Weighs a model, as `weighbridge.inspection.inspect` does; the result draws itself in a notebook.

    Example:
        >>> shape = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
        >>> inspect(shape).parameters.total
        124439808
        >>> "<svg" in inspect(shape)._repr_html_()
        True
    """
    found = inspection.inspect(source, context_tokens=context_tokens, settings=settings, like=like,
                               with_transformers=with_transformers)  # fmt: skip
    return Inspection(**{field.name: getattr(found, field.name) for field in fields(found)})
