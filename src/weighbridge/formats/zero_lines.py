"""Which rows and columns of a tensor hold nothing but zeros, when it is read once from its beginning to its end?

A row is all that lies under one index of the first axis: the weights of one neuron, or of one filter of a convolution.
A column, in a matrix, is what one input meets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_COLUMNS = 2**22
"""Columns of longer rows are not followed: that would take a byte for each."""


class ZeroLines:
    """Counts rows and columns without any number but zero.

    Example:
        >>> lines = ZeroLines((3, 2))
        >>> for part in ([False, True, False], [False, False, True]):
        ...     lines.add(np.array(part))
        >>> lines.zero_rows, lines.zero_columns, lines.dead
        (1, 1, 4)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        """Begins to follow a tensor of at least two axes and one element."""
        self._rows, self._length = shape[0], int(np.prod(shape[1:], dtype=object))
        self._place = 0
        self._row_lives = False
        self.zero_rows = 0
        follows = len(shape) == 2 and self._length <= MOST_COLUMNS
        self._column_lives = np.zeros(self._length, bool) if follows else None
        self._all_live = not follows

    def add(self, lives: NDArray[np.bool_]) -> None:
        """Follows the next elements: (n,), true for those that are not zero."""
        if lives.all():
            self._add_living(lives.size)
            return
        begun = self._place and self._length - self._place
        if begun:
            self._add_part(lives[:begun])
            lives = lives[begun:]
        whole = lives[: lives.size - lives.size % self._length].reshape(-1, self._length)
        if whole.size:
            self.zero_rows += len(whole) - int(np.count_nonzero(whole.any(axis=1)))
            if not self._all_live:
                self._mark(0, whole.any(axis=0))
        if lives.size > whole.size:
            self._add_part(lives[whole.size :])

    def _add_living(self, size: int) -> None:
        """Follows elements none of which is zero: every row that they lie in lives."""
        if not self._all_live:
            first = min(size, self._length - self._place)
            self._mark(self._place, np.True_, first)
            self._mark(0, np.True_, min(size - first, self._length))
        self._place = (self._place + size) % self._length
        self._row_lives = self._place > 0

    def _add_part(self, lives: NDArray[np.bool_]) -> None:
        """Follows elements of one row, up to its end at most."""
        self._row_lives |= bool(lives.any())
        if not self._all_live:
            self._mark(self._place, lives)
        self._place += lives.size
        if self._place == self._length:
            self.zero_rows += not self._row_lives
            self._place, self._row_lives = 0, False

    def _mark(self, begin: int, lives: NDArray[np.bool_] | np.bool_, length: int | None = None) -> None:
        assert self._column_lives is not None
        self._column_lives[begin : begin + (np.size(lives) if length is None else length)] |= lives
        self._all_live = bool(self._column_lives.all())

    @property
    def zero_columns(self) -> int | None:
        """Columns of a matrix that hold nothing but zeros; None where they are not followed."""
        return None if self._column_lives is None else int(self._length - np.count_nonzero(self._column_lives))

    @property
    def dead(self) -> int:
        """Elements of rows and columns that hold nothing but zeros."""
        living = self._length - (self.zero_columns or 0)
        return self._rows * self._length - (self._rows - self.zero_rows) * living
