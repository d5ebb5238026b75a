"""What are the range, mean, deviation and outliers of numbers that are read once, a part at a time?

Types of 8 and 16 bits have so few codes that it is counted how often each occurs, and all follows from that in fp64.
For wider types each part gives its sum and its squares about its own mean in fp64, and parts are joined by Chan, Golub
and LeVeque ("Algorithms for computing the sample variance", 1983), which loses nothing where the mean is large beside
the deviation.

An outlier lies more than six standard deviations from the mean, which is only known at the end. Codes are counted, and
small tensors are still at hand then. Of larger ones it is counted how often each pattern of the upper 16 bits occurs:
outliers are those that these bits show to be some, so that bounds are rounded outwards to numbers of 8 significant bits
in fp32, and of 5 in fp64. Infinities and NaN are counted apart and have no part in anything else.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.formats import number_codes
from weighbridge.model.encodings import Encoding

Array = NDArray[Any]
FAR = 6.0
"""Standard deviations from the mean beyond which an element is an outlier."""
MOST_KEPT = 2**20
"""Tensors of up to so many elements are kept until the end, so that their outliers are counted exactly."""
_CANCELS = 1e-4
"""Where the squares about the mean are a smaller share of the squares, their difference has lost digits."""
_SQUARES_REACH = 1e140
"""Squares of numbers beyond this, or below its inverse, leave fp64."""
_CODES = 2**16


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of all finite elements: None where there are none, and for a deviation that fp64 cannot hold.

    `outliers` is None for integers, which are often codes or places; `bounds` are those beyond which outliers lie.
    """

    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    deviation: float | None = None
    nan: int = 0
    infinite: int = 0
    outliers: int | None = None
    bounds: tuple[float, float] | None = None

    @property
    def is_constant(self) -> bool:
        """Whether all elements are one finite number."""
        return self.minimum is not None and self.minimum == self.maximum and not self.nan and not self.infinite

    @property
    def farthest(self) -> float | None:
        """How many standard deviations the element farthest from the mean lies from it."""
        if self.minimum is None or self.maximum is None or self.mean is None or not self.deviation:
            return None
        return max(self.maximum - self.mean, self.mean - self.minimum) / self.deviation


class CodeCounts:
    """A tensor of a type of 8 or 16 bits: how often each code occurs."""

    def __init__(self, encoding: Encoding) -> None:
        self._is_float = encoding.is_float
        self._numbers = number_codes.numbers(encoding)
        self._counts = np.zeros(_CODES, np.int64)
        self._odd = np.zeros(_CODES, np.int64)
        zeros = np.flatnonzero(self._numbers == 0)
        self._mask = self._numbers.size - 1 - int(zeros[-1]) if zeros.size else None

    def add(self, codes: Array) -> None:
        """Counts codes: (n,) of uint8 or uint16. Two of 8 bits are counted as one of 16, which is faster."""
        if codes.itemsize == 1:
            even = codes.size - codes.size % 2
            self._odd += np.bincount(codes[even:], minlength=_CODES)
            codes = codes[:even].view(np.uint16)
        self._counts += np.bincount(codes, minlength=_CODES)

    def lives(self, codes: Array) -> NDArray[np.bool_]:
        """Which of the codes do not stand for zero."""
        if self._mask is None:
            return np.ones(codes.size, bool)
        found: NDArray[np.bool_] = (codes & codes.dtype.type(self._mask)) != 0
        return found

    def numbers(self, codes: Array) -> NDArray[np.float64]:
        """What the codes stand for."""
        return self._numbers[codes]

    def statistics(self) -> Statistics:
        """What follows from the counts."""
        counts, numbers = self._counts, self._numbers
        if numbers.size < _CODES:
            pairs = counts.reshape(256, 256)
            counts = pairs.sum(axis=0) + pairs.sum(axis=1) + self._odd[:256]
        nan, infinite = int(counts[np.isnan(numbers)].sum()), int(counts[np.isinf(numbers)].sum())
        taken = np.flatnonzero((counts > 0) & np.isfinite(numbers))
        if not taken.size:
            return Statistics(nan=nan, infinite=infinite)
        counts, numbers = counts[taken], numbers[taken]
        minimum, maximum = float(numbers.min()), float(numbers.max())
        mean = float(counts @ numbers / counts.sum())
        deviation = math.sqrt(counts @ (numbers - mean) ** 2 / counts.sum())
        if not self._is_float:
            return Statistics(int(minimum), int(maximum), mean, deviation, nan, infinite)
        outliers = int(counts[np.abs(numbers - mean) > FAR * deviation].sum())
        return Statistics(minimum, maximum, mean, deviation, nan, infinite, outliers, _bounds(mean, deviation))


class Moments:
    """A tensor of a wider type, or a small one: its sums."""

    def __init__(self, is_float: bool, elements: int) -> None:
        """Begins with a tensor of so many elements."""
        self._is_float = is_float
        self._minimum, self._maximum = math.inf, -math.inf
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._nan = self._infinite = 0
        self._kept: list[Array] | None = [] if is_float and elements <= MOST_KEPT else None
        self._upper = np.zeros(_CODES, np.int64)

    def add(self, elements: Array) -> None:
        """Takes numbers: (n,), not none, of one type of 32 or 64 bits in this machine's order of bytes."""
        low, high = elements.min(), elements.max()
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = np.isfinite(elements)
            nan = int(np.count_nonzero(np.isnan(elements)))
            self._nan += nan
            self._infinite += finite.size - int(np.count_nonzero(finite)) - nan
            elements = elements[finite]
            if not elements.size:
                return
            low, high = elements.min(), elements.max()
        self._minimum, self._maximum = min(self._minimum, low.item()), max(self._maximum, high.item())
        self._join(elements.astype(np.float64))
        if self._kept is not None:
            self._kept.append(elements)
        elif self._is_float:
            self._count_upper_bits(elements)

    def _join(self, elements: NDArray[np.float64]) -> None:
        """Joins the sums of a part to those of what came before it; the part is changed."""
        count, total = elements.size, float(elements.sum())
        mean, of_squares = total / count, _sum_of_squares(elements)
        squares = of_squares - total * mean
        if not squares > _CANCELS * of_squares:
            elements -= mean
            rest = float(elements.sum())
            squares = _sum_of_squares(elements) - rest * rest / count
        delta, both = mean - self._mean, self._count + count
        self._squares += squares + delta * delta * (self._count / both * count)
        self._mean += delta * (count / both)
        self._count = both

    def _count_upper_bits(self, elements: Array) -> None:
        pairs = elements.itemsize // 2
        upper = elements.view(np.uint16)[pairs - 1 if sys.byteorder == "little" else 0 :: pairs]
        self._upper += np.bincount(upper, minlength=_CODES)
        self._dtype = elements.dtype

    def lives(self, elements: Array) -> NDArray[np.bool_]:
        """Which of the numbers are not zero."""
        found: NDArray[np.bool_] = elements != 0
        return found

    def numbers(self, elements: Array) -> NDArray[np.float64]:
        """The numbers in fp64."""
        return elements.astype(np.float64)

    def statistics(self) -> Statistics:
        """What follows from the sums."""
        if not self._count:
            return Statistics(nan=self._nan, infinite=self._infinite)
        minimum, maximum = self._minimum, self._maximum
        if not self._is_float:
            minimum, maximum = int(minimum), int(maximum)
        mean, deviation = self._mean, math.sqrt(max(0.0, self._squares / self._count))
        if minimum == maximum:
            mean, deviation = float(minimum), 0.0
        known = Statistics(minimum, maximum, mean, deviation, self._nan, self._infinite)
        if not self._is_float:
            return known
        farthest = max(abs(minimum), abs(maximum))
        if not math.isfinite(mean) or (farthest and not 1 / _SQUARES_REACH < farthest < _SQUARES_REACH):
            return replace(known, mean=mean if math.isfinite(mean) else None, deviation=None)
        bounds = _bounds(mean, deviation)
        if self._kept is not None:
            outliers = sum(int(np.count_nonzero(np.abs(part.astype(np.float64) - mean) > FAR * deviation))
                           for part in self._kept)  # fmt: skip
        else:
            outliers, bounds = _outliers(self._upper, self._dtype, bounds)
        return replace(known, outliers=outliers, bounds=bounds)


def _sum_of_squares(elements: NDArray[np.float64]) -> float:
    """Not by a dot product: its threads cost more than they save when another process wants the processor too."""
    return float(np.einsum("i,i->", elements, elements))


def _bounds(mean: float, deviation: float) -> tuple[float, float]:
    return mean - FAR * deviation, mean + FAR * deviation


def _outliers(
    upper_bits: NDArray[np.int64], dtype: np.dtype[Any], bounds: tuple[float, float]
) -> tuple[int, tuple[float, float]]:
    """Elements whose upper 16 bits lie outside the bounds whatever the others are, and the bounds rounded outwards."""
    bits = 8 * dtype.itemsize
    edges = (np.arange(2**15 + 1, dtype=np.uint64) << np.uint64(bits - 16)).astype(f"u{dtype.itemsize}").view(dtype)
    last = int(np.flatnonzero(np.isinf(edges))[0])
    edges = edges[: last + 1].astype(np.float64)
    lower, upper = np.append(edges[:-1], -edges[1:]), np.append(edges[1:], -edges[:-1])
    counts = np.append(upper_bits[:last], upper_bits[2**15 : 2**15 + last])
    below, above = upper < bounds[0], lower > bounds[1]  # an edge may be an element itself
    found = int(counts[below | above].sum())
    low, high = float(upper[below].max(initial=-np.inf)), float(lower[above].min(initial=np.inf))
    return found, (low if math.isfinite(low) else bounds[0], high if math.isfinite(high) else bounds[1])
