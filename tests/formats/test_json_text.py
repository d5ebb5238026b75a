"""JSON from strangers: what is refused, where the bounds lie, and that the rest equals Python's own parser."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.errors import FormatError
from weighbridge.formats import json_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans(), st.sampled_from([None, 2]))
def test_equals_the_standard_parser(value: Any, ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    assert json_text.parse(data, "x") == value


@given(st.text(alphabet='[]{}",:\\ 1nu0d8\n', max_size=60))
def test_accepts_nothing_that_the_standard_parser_refuses(text: str) -> None:
    try:
        value = json_text.parse(text.encode(), "x")
    except FormatError as error:
        assert error.action
    else:
        assert value == json.loads(text)


@pytest.mark.parametrize("text", [b'{"a": 1, "a": 2}', b'[{"b": {"a": 1, "c": 3, "a": 1}}]', b'{"\\u0061": 1, "a": 2}'])
def test_refuses_repeated_keys_at_any_depth(text: bytes) -> None:
    with pytest.raises(FormatError, match="the key 'a' twice"):
        json_text.parse(text, "x")


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999"])
def test_numbers_that_are_not_finite_are_for_configurations(constant: bytes) -> None:
    with pytest.raises(FormatError, match="x holds"):
        json_text.parse(b"[" + constant + b"]", "x")
    (number,) = json_text.parse(b"[" + constant + b"]", "x", allow_constants=True)
    assert number != number or abs(number) == float("inf")


@pytest.mark.parametrize("constants", [False, True])
@pytest.mark.parametrize("digits", [5_000, 1_000_000])
def test_refuses_integers_that_take_quadratic_time(constants: bool, digits: int) -> None:
    with pytest.raises(FormatError, match="thousands of digits"):
        json_text.parse(b"[" + b"9" * digits + b"]", "x", allow_constants=constants)


def test_a_byte_order_mark_is_for_configurations() -> None:
    with pytest.raises(FormatError, match="byte order mark"):
        json_text.parse(b"\xef\xbb\xbf{}", "x")
    assert json_text.parse(b"\xef\xbb\xbf{}", "x", allow_bom=True) == {}
    with pytest.raises(FormatError):
        json_text.parse(b"\xef\xbb\xbf\xef\xbb\xbf{}", "x", allow_bom=True)


@pytest.mark.parametrize(
    ("data", "line", "column"),
    [
        (b"", 1, 1), (b"   ", 1, 4), (b"{", 1, 2), (b'{"a": 1,}', 1, 9), (b'{\n "a": tru}', 2, 7), (b"{} x", 1, 4),
        (b'{}\n\n {"a": 1}', 3, 2), (b"[1]\0", 1, 4), (b'["\xff"]', 1, 3), (b'\n["\xc3\xa4\xff"]', 2, 4),

        (b"\xff", 1, 1), (b'["\xed\xa0\x80"]', 1, 3), (b'\n["a\\ud800"]', 2, 4), (b'["\\udc00\\ud800"]', 1, 3),
        (b"{\0}", 1, 2),        (b'["\x01"]', 1, 3), (b"['a']", 1, 2), (b"\xff\xfe{\0}\0", 1, 1),
    ],
)  # fmt: skip
def test_says_where_the_text_goes_wrong(data: bytes, line: int, column: int) -> None:
    with pytest.raises(FormatError, match=f"^x is not valid JSON at line {line} column {column} "):
        json_text.parse(data, "x")


@pytest.mark.parametrize(
    "text",
    [b'["\\ud83d\\ude00"]', b'["\\\\ud800"]', b'["\\\\\\\\ud800"]', b'["\\ud83d\\ude00\\\\ud83d"]', b'{"\\u00e4": 1}'],
)
def test_whole_surrogate_pairs_and_escaped_backslashes_pass(text: bytes) -> None:
    assert json_text.parse(text, "x") == json.loads(text)


def test_what_follows_the_first_value_can_be_left_unread() -> None:
    for tail in (b'\n{"weight_map": {}}', b" [[[", b"]]]", b'{"'):
        notes: list[str] = []
        assert json_text.parse(b'{"a": [1]}' + tail, "x", allow_trailing=True, notes=notes) == {"a": [1]}
        assert len(notes) == 1 and f"{len(tail.lstrip())} characters" in notes[0]
        assert json_text.parse(b'{"a": [1]}' + tail, "x", allow_trailing=True) == {"a": [1]}
        with pytest.raises(FormatError, match="more data follows"):
            json_text.parse(b'{"a": [1]}' + tail, "x")
    notes = []
    assert json_text.parse(b"{}\r\n\t ", "x", allow_trailing=True, notes=notes) == {} and not notes


def nested(depth: int, opening: bytes, inside: bytes, closing: bytes) -> bytes:
    return opening * depth + inside + closing * depth


@pytest.mark.parametrize("bound", [1, 2, 7, 8, 9, 64, 127])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [(b"[", b"]"), (b'{"a":', b"}"), (b'["]",', b',"["]'), (b'["\\"]\\"",', b',"\\"["]'), (b'["\\\\","]",', b',"["]')],
    ids=["arrays", "objects", "brackets in strings", "after escaped quotes", "after escaped backslashes"],
)
def test_depth_is_bounded_exactly(bound: int, opening: bytes, closing: bytes) -> None:
    for depth in (bound - 1, bound):
        data = nested(depth, opening, b"1", closing)
        assert json_text.parse(data, "x", max_depth=bound) == json.loads(data)
    for depth in (bound + 1, bound + 2, 2 * bound + 20, 5000):
        with pytest.raises(FormatError, match=f"nests more than {bound} "):
            json_text.parse(nested(depth, opening, b"1", closing), "x", max_depth=bound)


def test_brackets_in_strings_are_no_depth() -> None:
    data = json.dumps(["[" * 10_000, {"{[" * 500: "]" * 999}, '"[' * 300, "\\" * 7 + '"' + "{" * 100]).encode()
    assert json_text.parse(data, "x", max_depth=2) == json.loads(data)


def test_a_deep_stack_is_a_format_error() -> None:
    data = nested(100_000, b"[", b"", b"]")
    with pytest.raises(FormatError, match="nests more than"):
        json_text.parse(data, "x", max_depth=10**6)


def test_length_and_number_of_values_are_bounded_exactly() -> None:
    data = b'{"a": [1, 2, 3]}'
    for size in (len(data), len(data) + 1):
        assert json_text.parse(data, "x", max_bytes=size) == {"a": [1, 2, 3]}
    with pytest.raises(FormatError, match="16 bytes"):
        json_text.parse(data, "x", max_bytes=len(data) - 1)
    for items in (3, 4):
        assert json_text.parse(data, "x", max_items=items) == {"a": [1, 2, 3]}
    with pytest.raises(FormatError, match="up to 3 values"):
        json_text.parse(data, "x", max_items=2)
