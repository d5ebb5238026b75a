"""What is each tensor called, where a file gives several of them one name? Its name, its path, at last a number."""

from __future__ import annotations


class UniqueNames:
    """Names that occur once, in time that grows with their number whatever they are.

    Example:
        >>> names = UniqueNames()
        >>> [names.take("w"), names.take("w", "loop/w"), names.take("w", "loop/w"), names.take("w#2"), names.take("w")]
        ['w', 'loop/w', 'loop/w#2', 'w#2', 'w#3']
    """

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}

    def take(self, name: str, longer: str = "") -> str:
        """A name for one more tensor: `name` where it is free, or else the `longer` one, or that with a number."""
        candidate = longer if longer and name in self._taken else name
        found = candidate
        while found in self._taken:
            self._taken[candidate] += 1
            found = f"{candidate}#{self._taken[candidate]}"
        self._taken[found] = 1
        return found
