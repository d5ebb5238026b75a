"""Hostile OpenVINO models: refused with an error that says what to do, or read without harm; never costly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.attacks.bounds import refused, within

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import openvino
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint


def folder(xml: str | bytes, weights: int = 64) -> MemoryFolder:
    raw = xml.encode() if isinstance(xml, str) else xml
    return MemoryFolder({"m.xml": raw, "m.bin": bytes(weights)})


def read(xml: str | bytes, weights: int = 64) -> Checkpoint:
    """The reading, within its bounds of processor time (before the tracing, which slows it) and of memory."""
    return within(lambda: openvino.read(folder(xml, weights), "m.xml"))


def refuse(xml: str | bytes, part: str = "", weights: int = 64) -> None:
    refused(lambda: read(xml, weights), part)


def const(number: int | str = 0, offset: str = "0", size: str = "8", shape: str = "2", kind: str = "f32") -> str:
    data = f'<data element_type="{kind}" shape="{shape}" offset="{offset}" size="{size}"/>'
    return f'<layer id="{number}" name="w" type="Const">{data}<output><port id="0"/></output></layer>'


def net(layers: str, edges: str = "", head: str = "") -> str:
    return f'{head}<net name="m" version="11"><layers>{layers}</layers><edges>{edges}</edges></net>'


VALID = net(
    '<layer id="9" name="x" type="Parameter"><output><port id="0"/></output></layer>' + const(1, "8") + const()
    + '<layer id="2" type="If" name="m"><input><port id="0"/><port id="1"/></input><output><port id="2"/></output>'
    '<body><layers/><edges/></body><port_map><input external_port_id="0" internal_layer_id="1"/></port_map></layer>',
    '<edge from-layer="0" from-port="0" to-layer="2" to-port="0"/><edge from-layer="9" from-port="0" to-layer="2" '
    'to-port="1"/>', '<?xml version="1.0"?>',
)  # fmt: skip


def test_names_that_are_made_of_others_are_told_apart() -> None:
    """The names that a second `w` would get are taken already."""
    names = ["w", "/w", "w#2", "/w#5", "w#3", "w", "w", "", "unnamed", ""]
    layers = "".join(const(n).replace('name="w"', f'name="{name}"') for n, name in enumerate(names))
    found = [tensor.name for tensor in read(net(layers)).tensors]
    assert len(set(found)) == len(names) and found[:5] == names[:5] and found[5] == "w#4"


def test_the_valid_file() -> None:
    """What the attacks below change is a file that reads."""
    assert [tensor.name for tensor in read(VALID).tensors] == ["w", "w#2"]


# XML


BOMB = (
    '<!DOCTYPE net [<!ENTITY a "' + "a" * 100 + '">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)) + "]>"
)  # fmt: skip


@pytest.mark.parametrize(
    "head", [BOMB, "<!DOCTYPE net>", '<!DOCTYPE net SYSTEM "file:///etc/passwd">', '<!DOCTYPE net PUBLIC "a" "http://x/y">',
             '<!DOCTYPE net [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>']
)  # fmt: skip
def test_document_types(head: str) -> None:
    """Entities that grow to gigabytes, or that bring in other files: no model has a document type at all."""
    refuse(net(const(), head=head).replace('name="w"', 'name="&j;"'), "document type")


@pytest.mark.parametrize(
    "xml", ["", "x", "<net", "<net version='11'>", "</net>", "<a><b></a></b>", "\0" * 100, "<net version='11'/><net/>",
            "<?xml version='1.0' encoding='hex'?><net version='3'/>",
             "<net version='11'><layers>&undefined;</layers></net>",
            b"\xff\xfe<\0n\0", b"PK\3\4" + bytes(60), "<html/>", "<layers><layer id='0'/></layers>"]
)  # fmt: skip
def test_what_is_no_model(xml: str | bytes) -> None:
    refuse(xml)


def test_deep_elements() -> None:
    refuse("<net version='11'>" * 30_000, "nests more than 100")
    bodies = '<body><layers><layer id="1">' * 2000
    refuse(net(f"<layer id='0' type='If'>{bodies}"), "nests more than 100")


def test_an_xml_without_end() -> None:
    source = MemoryFile("m.xml", b"<net>", size=10**12)
    with pytest.raises(WeighbridgeError, match="has 1,000,000,000,000 bytes"):
        openvino.read(MemoryFolder({"m.xml": source}), "m.xml")
    assert source.requests == 0


# Layers


def test_many_small_things() -> None:
    read(net("<layer/>" + "".join(f'<layer id="{i}"/>' for i in range(3000))))
    read(net(const(), '<edge from-layer="0" from-port="0" to-layer="0" to-port="0"/>' * 1500))
    ports = "".join(f'<port id="{i}"/>' for i in range(3000))
    wide = f'<layer id="1" type="Concat"><input>{ports}</input><output>{ports}</output></layer>'
    read(
        net(
            const() + wide,
            "".join(f'<edge from-layer="0" from-port="0" to-layer="1" to-port="{i}"/>' for i in range(900)),
        )
    )


def test_circles() -> None:
    """Layers that take what they make."""
    ring = "".join(
        f'<layer id="{i}" type="{kind}"><input><port id="0"/></input><output><port id="1"/></output></layer>'
        for i, kind in enumerate(["Convert", "Reshape", "ReduceL2", "Negative"] * 200)
    )
    joined = "".join(
        f'<edge from-layer="{i}" from-port="1" to-layer="{(i + 1) % 800}" to-port="0"/>' for i in range(800)
    )
    assert read(net(ring, joined)).tensors == ()


def test_names_given_many_times() -> None:
    found = read(net("".join(const(i, str(8 * i)) for i in range(1000))), 8000)
    assert len({tensor.name for tensor in found.tensors}) == 1000


def test_two_layers_of_one_id() -> None:
    refuse(net(const() + const(0, "8")), "two layers")


# Ranges


@pytest.mark.parametrize(
    ("offset", "size", "shape"),
    [("60", "8", "2"), ("0", "80", "20"), ("-8", "8", "2"), ("0", "-8", "-2"), ("0", "8", "3"), ("0", "8", "1"),
     ("0", "8", ""), ("0", "", "2"), ("", "8", "2"), ("0", "8", "2,"), ("0", "8", ",".join("1" * 65)),
     ("1e1", "8", "2"),
     ("0", "8", "٢"), ("9" * 30, "8", "2"), ("0", "8", "9" * 19 + "," + "9" * 19), ("18446744073709551608", "8", "2")],
)  # fmt: skip
def test_ranges_that_lie(offset: str, size: str, shape: str) -> None:
    refuse(net(const(0, offset, size, shape)))


def test_shapes_of_huge_numbers() -> None:
    refuse(net(const(0, "0", "8", ",".join(["9" * 19] * 60))))


def test_overlaps() -> None:
    refuse(net(const() + const(1, "4")), "apart")


@pytest.mark.parametrize("kind", ["", "f31", "u3", "undefined", "x" * 5000, "dynamic"])
def test_types_that_are_not_read(kind: str) -> None:
    refuse(net(const(kind=kind)), "has the type")


def test_a_constant_without_a_port() -> None:
    refuse(net(const().replace('<output><port id="0"/></output>', "")))


def test_control_characters_in_names() -> None:
    refuse(net(const(size="9").replace('name="w"', 'name="&#x9b;2J&#x202e;"')), "\\x9b")


# Anything


RAW = VALID.encode()


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(RAW) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(RAW)))
def test_changed_and_cut_files(changes: list[tuple[int, int]], cut: int) -> None:
    """Whatever bytes are changed or cut, only the documented errors escape."""
    raw = bytearray(RAW)
    for place, value in changes:
        raw[place] = value
    for data in (bytes(raw), bytes(raw[:cut])):
        try:
            openvino.read(folder(data), "m.xml")
        except WeighbridgeError as error:
            assert error.action


TAGS = ["net", "layers", "layer", "edges", "edge", "body", "then_body", "port_map", "input", "port", "data", "rt_info"]


WORDS = ["", " id='0' type='Const'", " id='1' type='If'", " version='11'"]


def element(parts: tuple[str, str, str]) -> str:
    tag, words, inside = parts
    return f"<{tag}{words}>{inside}</{tag}>"


ELEMENTS = st.recursive(
    st.just(""),
    lambda inner: st.lists(
        st.tuples(st.sampled_from(TAGS), st.sampled_from(WORDS), inner).map(element), max_size=4
    ).map("".join),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(ELEMENTS)
def test_random_elements(inside: str) -> None:
    """Any nesting of elements is read or refused."""
    try:
        openvino.read(folder(net(inside)), "m.xml")
    except WeighbridgeError as error:
        assert error.action
