"""Hostile spaCy pipelines: refused with advice, in under a second and under 100 MB."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import CHANGES, CUT, Reads, SparseFile
from tests.formats.small_binaries import SMALL_CFG, array, msgpack, npy, small_pipeline, thinc

from weighbridge.formats import spacy as reader

READ = Reads(reader.read, "config.cfg", small_pipeline())


def with_model(data: bytes) -> dict[str, bytes]:
    return {**small_pipeline(), "tok2vec/model": data}


def test_cut_at_every_length() -> None:
    READ.cuts()


def test_a_terabyte_of_zeros() -> None:
    READ.sparse()
    READ.refuse({**small_pipeline(), "tagger/model": SparseFile("model", b"\xdd\xff\xff\xff\xff")}, "values")


@settings(max_examples=400, deadline=None)
@given(CHANGES, CUT)
def test_mutations(changes: list[tuple[int, int, bytes, int]], cut: int) -> None:
    READ.changes(changes, cut)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes(data: bytes) -> None:
    READ(with_model(data))
    READ({**small_pipeline(), "vocab/vectors": b"\x93NUMPY\x01\0" + data})
    READ({"config.cfg": b"[nlp]\npipeline = [" + data})


def test_values_inside_each_other() -> None:
    for opening in (b"\x91", b"\x81\x01", b"\xdc\x00\x01", b"\x81"):
        READ.refuse(with_model(opening * 50_000))


def test_huge_counts() -> None:
    for kind in (b"\xdd", b"\xdf", b"\xc6", b"\xc9", b"\xdb"):
        READ.refuse(with_model(kind + b"\xff" * 4 + bytes(1000)))
    READ.refuse(with_model(b"\xdd\x00\x01\x80\x00" + b"\x90" * 98_304))


def test_keys_that_are_none() -> None:
    for key in (b"\x90", b"\x80", b"\xc0", b"\xca\x7f\xc0\x00\x00", b"\xc4\x60" + bytes(96)):
        READ.refuse(with_model(b"\x81" + key + b"\x01"), "key")


def test_shapes_that_claim_more() -> None:
    for shape in ([2**32 - 1] * 30, [0, 2**32 - 1], [2**32 - 1], [True], ["a"], [None], [[1]], [1] * 100):
        model = thinc([("a", {"W": {**array((1,), bytes(4)), b"shape": shape}})])
        READ(with_model(model), traced=True)


def test_headers_of_numpy_that_make_a_pattern_search_long() -> None:
    for text in ("1" * 9000, "1," * 4000, ", " * 4000, "(" * 9000, " " * 9000):
        raw = npy((), b"").replace(b"()", f"({text})".encode())
        READ({**small_pipeline(), "vocab/vectors": raw[:8] + (len(raw) - 10).to_bytes(2, "little") + raw[10:]})


def test_configurations_that_go_on() -> None:
    for text in (
        b"[nlp]\n" * 100_000,
        b"[nlp]\npipeline" + b" " * 500_000,
        b"[nlp]\npipeline = " + b"[" * 100_000,
        b"[nlp]\n" + b"pipeline = [\n" * 50_000,
        b'[nlp]\npipeline = ["' + b'a","' * 100_000 + b'"]',
    ):
        READ.refuse({"config.cfg": text})
    READ.refuse({"config.cfg": SparseFile("config.cfg", SMALL_CFG)})


def test_numbers_as_names() -> None:
    READ.refuse(with_model(msgpack({"nodes": [{"name": 1}], "params": [{}]})), "without a name")
    READ(with_model(msgpack({"nodes": [{"name": "a"}], "params": [{7: None}], "shims": 3})))
