"""What does a fastText model hold? Its two matrices, dense or product-quantized, in a `.bin` or `.ftz` file.

A file is: the magic number 793712314 and the version (11 or 12), the settings (12 int32, one double), the dictionary,
one byte that says whether the input is quantized, the input matrix, one byte that says whether the output is, and the
output matrix. The dictionary has its numbers of entries, words, labels and tokens, the number of pruned rows, the
entries (a text with a closing zero, a count, a type), and the pruned rows as pairs of numbers. A dense matrix is rows,
columns and floats. A quantized one is cut into pieces of `dsub` columns: each row has one byte a piece, which picks one
of 256 centroids; with `qnorm` the rows' lengths are quantized apart in the same way.

How it counts. Input (a row for each word and each hash bucket, as many as pruning left) and output (a row for each
label, word or node) are the parameters, rows x columns, whatever is stored for them. `input.codes` stands for the
matrix; centroids are its codebook, the codes of lengths and their centroids are quantization too.

Source: facebookresearch/fastText, `src/fasttext.cc` (`loadModel`), `args.cc`, `dictionary.cc`, `densematrix.cc`,
`quantmatrix.cc`, `productquantizer.cc` (all `load`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from weighbridge.formats.binary_cursor import BinaryCursor
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.model.encodings import ENCODINGS
from weighbridge.model.tensors import Kind, TensorSpec, Weight

MAGIC = 793_712_314
VERSIONS = (11, 12)
MAX_WORDS = 30_000_000
"""The reference's own limit to its vocabulary."""
MAX_ELEMENTS = 2**48

_SETTINGS = ("dim", "ws", "epoch", "minCount", "neg", "wordNgrams", "loss", "model", "bucket", "minn", "maxn",
             "lrUpdateRate")  # fmt: skip
_CENTROIDS = 256
_FILE = "a fastText model of version 11 or 12"


def read(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint of a fastText model.

    Raises:
        FormatError: when a length does not fit into the file, or sizes contradict each other.
    """
    source = folder.open(name)
    cursor = BinaryCursor(source, _FILE)
    magic, version = cursor.numbers("Ii")
    if magic != MAGIC or version not in VERSIONS:
        cursor.fail(f"the magic number {magic:,} and version {version:,}", "check that it is such a file")
    settings = dict(zip(_SETTINGS, cursor.numbers("12i", "settings"), strict=True))
    settings["t"] = cursor.number("d", "settings")
    metadata: dict[str, Any] = {"version": version, "settings": settings} | _dictionary(cursor)
    is_quantized = _flag(cursor)
    tensors = list(_matrix(cursor, "input", is_quantized, name))
    tensors += _matrix(cursor, "output", _flag(cursor) and is_quantized, name)
    if cursor.left:
        cursor.fail(f"{cursor.left:,} bytes follow the output matrix")
    held = sum(tensor.size_bytes for tensor in tensors)
    return Checkpoint(
        source.name, "fasttext", (StoredFile(name, source.size, source.size - held, held, 0),), tuple(tensors),
        metadata=metadata, digest=cursor.digest,
    )  # fmt: skip


def _flag(cursor: BinaryCursor) -> bool:
    value = cursor.number("B", "whether a matrix is quantized")
    if value > 1:
        cursor.fail(f"{value} where a matrix is quantized (1) or not (0)")
    return bool(value)


def _dictionary(cursor: BinaryCursor) -> dict[str, int]:
    """The dictionary's numbers; its entries are walked, as only they say where it ends."""
    size, words, labels, tokens, pruned = cursor.numbers("iiiqq", "the dictionary's sizes")
    # An entry takes ten bytes at least, a pruned row eight; -1 says that nothing was pruned.
    if not (0 <= size <= min(MAX_WORDS, cursor.left // 10) and words + labels == size and min(words, labels) >= 0):
        cursor.fail(f"a dictionary of {size:,} entries, {words:,} words and {labels:,} labels")
    if not -1 <= pruned <= min(MAX_WORDS, cursor.left // 8):
        cursor.fail(f"{pruned:,} pruned rows")
    cursor.step_texts(size, 9, "a word")
    cursor.step(8 * max(pruned, 0), "the pruned rows")
    return {"words": words, "labels": labels, "tokens": tokens, "pruned_rows": pruned}


def _matrix(cursor: BinaryCursor, name: str, is_quantized: bool, file: str) -> Iterator[TensorSpec]:
    has_norms = is_quantized and _flag(cursor)
    rows, columns = cursor.numbers("qq", f"the sizes of the {name}")
    if min(rows, columns) < 0 or rows * columns > MAX_ELEMENTS:
        cursor.fail(f"the {name} with {rows:,} rows of {columns:,}")
    if not is_quantized:
        place = cursor.step(4 * rows * columns, f"the {name}")
        yield TensorSpec(name, (rows, columns), ENCODINGS["fp32"], file=file, byte_range=place)
        return
    size = cursor.number("i", "the size of the codes")
    if size < 0 or (size % rows if rows else size):
        cursor.fail(f"{size:,} codes for the {rows:,} rows of the {name}")
    codes = cursor.step(size, f"the codes of the {name}")
    pieces = size // rows if rows else 0
    yield TensorSpec(f"{name}.codes", (rows, pieces), ENCODINGS["uint8"], file=file, byte_range=codes,
                     stands_for=Weight(name, (rows, columns)))  # fmt: skip
    yield _centroids(cursor, f"{name}.centroids", columns, pieces, file)
    if has_norms:
        place = cursor.step(rows, f"the lengths of the {name}")
        yield TensorSpec(f"{name}.norm_codes", (rows,), ENCODINGS["uint8"], "scale", kind=Kind.QUANTIZATION, file=file,
                         byte_range=place)  # fmt: skip
        yield _centroids(cursor, f"{name}.norm_centroids", 1, 1, file)


def _centroids(cursor: BinaryCursor, name: str, columns: int, pieces: int, file: str) -> TensorSpec:
    """A product quantizer: its centroids, 256 of each column."""
    width, count, piece, last = cursor.numbers("4i", "a quantizer")
    if width != columns or (pieces and count != pieces) or min(count, piece, last) < 0:
        cursor.fail(f"{name} for {width:,} columns in {count:,} pieces of {piece:,}, not {columns:,} in {pieces:,}")
    place = cursor.step(4 * _CENTROIDS * columns, name)
    return TensorSpec(name, (_CENTROIDS, columns), ENCODINGS["fp32"], "codebook", kind=Kind.QUANTIZATION, file=file,
                      byte_range=place)  # fmt: skip
