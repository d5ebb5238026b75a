"""What does attention within an image cost beside its maps? Scores and a weighted sum for every pair of positions.

With p positions that attend to s, and heads that together are d wide: 2*p*s*d FLOPs for each of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores(Block):
    """Attention of `positions` to `attended`, whose number the image or the text fixes; it has no weights.

    Example:
        >>> Scores(width=320, positions=4096, attended=77).fixed_flops()
        403701760
    """

    width: int
    positions: int
    attended: int

    def weights(self) -> tuple[Weight, ...]:
        """None: the maps stand beside."""
        return ()

    def fixed_flops(self) -> int:
        """Scores and weighted sum, over all heads."""
        return 4 * self.positions * self.attended * self.width
