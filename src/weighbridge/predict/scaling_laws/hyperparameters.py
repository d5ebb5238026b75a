"""Which batch and which learning rate suit a budget of operations? Powers of it, as DeepSeek LLM 2024 fitted them.

B = 0.2920 C^0.3271 tokens, learning rate = 0.3118 C^-0.1250 (equation 1), from runs of 1e17 to 2e19 operations. The
paper finds a wide band that is nearly as good and prints no interval: half to twice as much is assumed.
"""

from __future__ import annotations

import math

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate

BATCH, LEARNING_RATE = (0.2920, 0.3271), (0.3118, -0.1250)
BAND = 2.0


def batch_tokens(flops: float) -> Estimate:
    """Tokens of one step that suit a run of so many operations.

    Raises:
        UnitError: for no number of operations.

    Example:
        >>> round(batch_tokens(8.4e22).value / 1e6, 1)
        9.2
    """
    return _power(BATCH, flops, "tokens")


def learning_rate(flops: float) -> Estimate:
    """The peak learning rate that suits a run of so many operations.

    Raises:
        UnitError: for no number of operations.

    Example:
        >>> round(learning_rate(8.4e22).value, 5)
        0.00042
    """
    return _power(LEARNING_RATE, flops, "")


def _power(law: tuple[float, float], flops: float, unit: str) -> Estimate:
    if not 0.0 < flops < math.inf:
        raise UnitError(f"{flops:g} operations", "a number above 0", "correct it")
    value = law[0] * flops ** law[1]
    return Estimate(value, value / BAND, value * BAND, unit, Basis.ASSUMED,
                    "DeepSeek LLM 2024, equation 1; a wide band is nearly as good")  # fmt: skip
