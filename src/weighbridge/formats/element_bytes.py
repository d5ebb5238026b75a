"""How do the bytes of elements reach a reader that takes pieces? Turned to little-endian, cut at whole elements."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def whole_elements(
    parts: Iterable[bytes], element_bytes: int, part_bytes: int, max_bytes: int, is_big_endian: bool
) -> Iterator[bytes]:
    """The same bytes in pieces of whole elements, at most `max_bytes` each, little-endian.

    Args:
        parts: the bytes, cut anywhere.
        element_bytes: bytes of an element.
        part_bytes: bytes of what has a byte order: half an element for a complex number.
        max_bytes: at least `element_bytes`.
        is_big_endian: whether the parts of an element come with their highest byte first.

    Example:
        >>> list(whole_elements([b"abc", b"de", b"f"], 2, 2, 4, True))
        [b'ba', b'dc', b'fe']
    """
    step = max_bytes - max_bytes % element_bytes
    kept = b""
    for part in parts:
        kept += part
        whole = len(kept) - len(kept) % element_bytes
        for at in range(0, whole, step):
            piece = kept[at : min(at + step, whole)]
            yield _turned(piece, part_bytes) if is_big_endian else piece
        kept = kept[whole:]
    assert not kept, "the parts are whole elements together"


def _turned(piece: bytes, part_bytes: int) -> bytes:
    import numpy as np

    return bytes(np.frombuffer(piece, np.uint8).reshape(-1, part_bytes)[:, ::-1].tobytes())
