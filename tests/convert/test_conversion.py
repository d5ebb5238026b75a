"""What is taken along, what is refused, and that nothing but a whole result is ever left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.convert.test_gguf_layouts import write as write_gguf
from tests.formats.hub_double import safetensors_file, serve
from tests.pages import small_llama
from tests.pickles import Call, Global, Writer

import weighbridge
from weighbridge.cli import main
from weighbridge.convert.conversion import convert
from weighbridge.errors import ConfigError, FormatError, SourceError, UnitError, WeighbridgeError
from weighbridge.formats import contents

ROOT = Path(__file__).resolve().parents[2]
HEAD, TABLE = "lm_head.weight", "model.embed_tokens.weight"


def weigh(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["convert", *map(str, arguments)])


def model(folder: Path, *, tied: bool = True, head: str | None = "same") -> Path:
    """The tutorial's Llama with weights of its own; its head is the same as the token table, another, or not there."""
    config = {**small_llama(), "tie_word_embeddings": tied}
    described = weighbridge.inspect(config).architecture
    assert described is not None
    generator = np.random.default_rng(2)
    arrays = {t.name: generator.standard_normal(t.shape).astype("float32") for t in described.tensors()}
    arrays.pop(HEAD, None)
    if head is not None:
        arrays[HEAD] = arrays[TABLE].copy()
    if head == "other":
        arrays[HEAD][0, 0] += 1
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    safetensors.numpy.save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return model(tmp_path / "source")


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- what is taken along ---------------------------------------------------------------------------------------------


def test_small_files_come_along_and_weights_of_other_forms_stay(source: Path, tmp_path: Path) -> None:
    (source / "tokenizer.json").write_text("{}")
    (source / "pytorch_model.bin").write_bytes(b"weights")
    (source / ".cache").write_text("hidden")
    modules = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    listed = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in modules.items()]
    (source / "modules.json").write_text(json.dumps(listed))
    for name in ("1_Pooling", "2_Dense"):
        (source / name).mkdir()
        (source / name / "config.json").write_text('{"a": 1}')
    safetensors.numpy.save_file({"linear.weight": np.ones((2, 2), "float32")}, source / "2_Dense/model.safetensors")
    (source / "else").mkdir()
    (source / "else/template.jinja").write_text("x")
    found = convert(source, tmp_path / "out", shard_bytes=100_000)
    out = tmp_path / "out"
    assert set(left(out)) == {"config.json", "tokenizer.json", "modules.json", "1_Pooling", "2_Dense",
                              "model.safetensors.index.json", *(file.name for file in found.files)}  # fmt: skip
    assert (out / "config.json").read_bytes() == (source / "config.json").read_bytes()
    assert (out / "1_Pooling/config.json").read_text() == '{"a": 1}'
    dense = "2_Dense/model.safetensors"
    assert (out / dense).read_bytes() == (source / dense).read_bytes()
    for name in ("pytorch_model.bin", "else"):
        assert any(note.startswith(f"{name} stays behind") for note in found.notes)
    assert weighbridge.inspect(out).parameters == weighbridge.inspect(source).parameters


def test_an_adapter_is_converted_with_its_configuration(tmp_path: Path) -> None:
    source = tmp_path / "adapter"
    source.mkdir()
    (source / "adapter_config.json").write_text('{"peft_type": "LORA", "target_modules": ["q"], "r": 2}')
    arrays = {f"base_model.model.q.lora_{part}.weight": np.ones(shape, "float32")
              for part, shape in (("A", (2, 8)), ("B", (8, 2)))}  # fmt: skip
    safetensors.numpy.save_file(arrays, source / "adapter_model.safetensors", metadata={"format": "pt"})
    assert len(convert(source, tmp_path / "cut", shard_bytes=64).files) == 2
    convert(source, tmp_path / "out")
    assert left(tmp_path / "out") == ["adapter_config.json", "adapter_model.safetensors"]
    assert (tmp_path / "out" / "adapter_model.safetensors").read_bytes() == (
        source / "adapter_model.safetensors").read_bytes()  # fmt: skip


def test_a_file_is_converted_alone(source: Path, tmp_path: Path) -> None:
    found = convert(source / "model.safetensors", tmp_path / "b.safetensors")
    assert left(tmp_path) == ["b.safetensors", "source"] and [f.name for f in found.files] == ["b.safetensors"]
    assert (tmp_path / "b.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    (tmp_path / "empty").mkdir()
    assert any("config.json stays behind" in note for note in
               convert(source / "model.safetensors", tmp_path / "empty").notes)  # fmt: skip
    assert left(tmp_path / "empty") == ["model.safetensors"]


def test_the_command_tells_what_it_did(source: Path, tmp_path: Path) -> None:
    shown = weigh(source, "-o", tmp_path / "out", "--shard-size", "100KB", "--drop-tied")
    assert shown.exit_code == 0, shown.output
    for text in (f"left out: {HEAD}, the same as {TABLE}", "bit for bit", "model-00001-of-"):
        assert text in shown.stdout
    document = json.loads(weigh(tmp_path / "out", "-o", tmp_path / "back", "--json").stdout)
    assert document["verified"] and document["dropped"] == [] and document["digest"] in shown.stdout
    assert document["tensors"] == len(document["checksums"]) == document["files"][0]["tensors"]
    assert document["files"][0]["size_bytes"] == (tmp_path / "back/model.safetensors").stat().st_size


# --- tied copies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tied", "head", "drops", "told"),
    [(True, "same", True, ""), (False, "same", False, ""), (True, "other", False, "differs"), (True, None, False, "")],
)
def test_only_equal_copies_that_the_model_ties_are_left_out(
    tmp_path: Path, tied: bool, head: str | None, drops: bool, told: str
) -> None:
    source = model(tmp_path / "source", tied=tied, head=head)
    found = convert(source, tmp_path / "out", drop_tied=True)
    held = safetensors.numpy.load_file(tmp_path / "out/model.safetensors")
    before = safetensors.numpy.load_file(source / "model.safetensors")
    assert found.dropped == ({HEAD: TABLE} if drops else {})
    assert held.keys() == before.keys() - found.dropped.keys()
    assert all(held[name].tobytes() == before[name].tobytes() for name in held)
    assert told in " ".join(found.notes)
    assert weighbridge.inspect(tmp_path / "out").parameters == weighbridge.inspect(source).parameters
    with safetensors.safe_open(tmp_path / "out/model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"} | ({HEAD: TABLE} if drops else {})


def test_without_the_wish_every_copy_stays(source: Path, tmp_path: Path) -> None:
    assert convert(source, tmp_path / "out").dropped == {}


def test_an_unknown_model_is_told_to_be_unknown(source: Path, tmp_path: Path) -> None:
    (source / "config.json").unlink()
    found = convert(source, tmp_path / "out", drop_tied=True)
    assert found.dropped == {} and "which of its tensors are tied is not known" in found.notes[0]


# --- what is refused -------------------------------------------------------------------------------------------------


def refusal(source: Path, target: Path, **options: Any) -> WeighbridgeError:
    before = sorted(target.absolute().parent.rglob("*")) if target.absolute().parent.is_dir() else []
    with pytest.raises(WeighbridgeError) as caught:
        convert(source, target, **options)
    if before:
        assert sorted(target.absolute().parent.rglob("*")) == before
    return caught.value


def test_what_is_there_is_never_written_over(source: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "mine.safetensors").write_text("mine")
    (tmp_path / "other.part").mkdir()
    (tmp_path / "other.part/mine.txt").write_text("mine")
    for name, word in (("full", "is there already"), ("mine.safetensors", "is there already"),
                       ("other", "no unfinished work"), ("source", "lies in the source"),
                       ("source/inside", "lies in the source"), ("no/folder", "is no folder"),
                       (".", "is there already"), ("a" * 254, "cannot be written"),
                       ("a" * 300, "cannot be looked at")):  # fmt: skip
        assert word in str(refusal(source, tmp_path / name)), name


def test_a_journal_of_something_else_is_never_written_over(source: Path, tmp_path: Path) -> None:
    (tmp_path / "out.part.json").write_text('{"mine": 1}')
    assert "out.part.json is there and is no unfinished work" in str(refusal(source, tmp_path / "out"))
    assert (tmp_path / "out.part.json").read_text() == '{"mine": 1}'


def test_unfinished_work_that_is_the_source_stays(source: Path, tmp_path: Path) -> None:
    """What looks like the rest of a killed run is removed, but never when it is what shall be read."""
    assert run(KILLED, 5, source, tmp_path / "out", 0).returncode == -signal.SIGKILL
    for named in (tmp_path / "out.part", tmp_path / "out.part/model.safetensors"):
        assert "which this writes" in str(refusal(named, tmp_path / "out"))


def test_links_as_targets(source: Path, tmp_path: Path) -> None:
    """A link to an empty folder stays, and the folder is filled; a link that leads nowhere is there already."""
    (tmp_path / "far/empty").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/empty")
    convert(source, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and left(tmp_path / "far") == ["empty"]
    assert left(tmp_path / "far/empty") == ["config.json", "model.safetensors"]
    for name in ("nowhere", "nowhere.safetensors"):
        (tmp_path / name).symlink_to(tmp_path / "far/none")
        assert "is there already" in str(refusal(source, tmp_path / name))
        assert (tmp_path / name).is_symlink()


def test_the_current_folder_and_mounts_are_not_replaced(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path / "empty")
        assert "is a mount or the current folder" in str(refusal(source, tmp_path / "empty"))
    monkeypatch.chdir(tmp_path / "empty")
    assert "is a mount or the current folder" in str(refusal(source, Path()))


def test_what_lies_behind_a_network_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the files of a folder that is called like its publisher are not taken for it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    data = safetensors_file({"w": ("F32", (2,), 8)})
    (tmp_path / "org/model.safetensors").write_bytes(data[:-8] + b"not this")
    with serve({"org/name": {"model.safetensors": data}, "files": {"model.safetensors": data}}) as hub:
        monkeypatch.setenv("HF_HUB_OFFLINE", "")
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for name in ("org/name", f"{hub.endpoint}/files/model.safetensors?X-Key=secret"):
            done = weigh(name, "-o", "out")
            assert done.exit_code == 2 and "no path on this machine" in done.stderr and "secret" not in done.stderr
        assert hub.asked == []
    assert left(tmp_path) == ["org"]


def test_what_is_no_layout_is_refused(source: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m.gguf", [(0, 1)])
    assert "weigh shrink" in str(refusal(source, tmp_path / "out.gguf"))
    assert "weigh shrink" in str(refusal(tmp_path / "m.gguf", tmp_path / "out.safetensors"))
    assert "another format" in str(refusal(source, tmp_path / "out.bin"))
    assert isinstance(refusal(source / "config.json", tmp_path / "out"), ConfigError)
    assert isinstance(refusal(tmp_path / "none.safetensors", tmp_path / "out"), SourceError)
    assert isinstance(refusal(tmp_path / "m.gguf", tmp_path / "out", drop_tied=True), UnitError)
    assert isinstance(refusal(source, tmp_path / "out.safetensors", shard_bytes=100), UnitError)
    assert isinstance(refusal(source, tmp_path / "out", shard_bytes=0), UnitError)


def test_refusals_of_the_command_are_one_sentence(source: Path, tmp_path: Path) -> None:
    for arguments in ((source, "-o", source), (source, "-o", tmp_path / "x.gguf"),
                      (source, "-o", tmp_path / "out", "--shard-size", "5Gb"), (source,)):  # fmt: skip
        shown = weigh(*arguments)
        assert shown.exit_code == 2 and "Traceback" not in shown.output and not shown.stdout
    assert left(tmp_path) == ["source"]


# --- what goes wrong meanwhile ---------------------------------------------------------------------------------------


def after(count: int, act: Callable[[], None], word: str = "copied") -> Callable[[str, int, int], None]:
    """Acts once when so many tensors are copied."""

    def tell(what: str, done: int, of: int) -> None:
        if done == count and what.startswith(word):
            act()

    return tell


@pytest.mark.parametrize("change", ["touched", "replaced", "cut", "gone"])
def test_a_source_that_changes_meanwhile_is_told(source: Path, tmp_path: Path, change: str) -> None:
    weights = source / "model.safetensors"

    def act() -> None:
        data = weights.read_bytes()
        if change == "gone":
            weights.unlink()
        elif change == "cut":
            weights.write_bytes(data[: len(data) // 3])
        elif change == "replaced":
            weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        else:
            os.utime(weights, ns=(1, 1))

    with pytest.raises(SourceError, match="cannot be read" if change == "gone" else "changed while it was read"):
        convert(source, tmp_path / "out", tell=after(2, act))
    assert "out" not in left(tmp_path)
    if change != "gone":
        assert left(tmp_path) == ["source"]


def test_no_room_is_seen_before_anything_is_copied(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    assert "No space left" in str(refusal(source, tmp_path / "out"))


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from weighbridge.cli import main
main(sys.argv[2:])
"""


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True,
                          env=environment, check=False, timeout=120)  # fmt: skip


def test_a_disk_that_refuses_to_write_leaves_nothing_under_the_name(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    size = (source / "model.safetensors").stat().st_size
    for limit in (size // 2, 100):
        done = run(LIMITED, limit, "convert", source, "-o", tmp_path / "out")
        assert done.returncode == 2 and "cannot be written (File too large)" in done.stderr, done.stderr
        assert "out" not in left(tmp_path) and "Traceback" not in done.stderr
    assert convert(source, tmp_path / "out").checksums and left(tmp_path) == ["out", "source"]


def test_a_disk_that_keeps_other_bytes_is_found_out(source: Path, tmp_path: Path) -> None:
    of = len(safetensors.numpy.load_file(source / "model.safetensors"))

    def act() -> None:
        with (tmp_path / "out.part/model.safetensors").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            last = file.read(1)
            file.seek(-1, os.SEEK_END)
            file.write(bytes([last[0] ^ 128]))

    with pytest.raises(SourceError, match="holds other bytes for"):
        convert(source, tmp_path / "out", tell=after(of, act))
    assert "out" not in left(tmp_path)
    found = convert(source, tmp_path / "out")
    assert found.resumed == of - 1 and left(tmp_path) == ["out", "source"]
    assert (tmp_path / "out/model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_bytes_that_a_tensor_lacks_are_told(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = contents.pieces
    for wrong in (lambda *of: list(pieces(*of))[:-1], lambda *of: [*pieces(*of), b"more"]):
        monkeypatch.setattr(contents, "pieces", wrong)
        assert isinstance(refusal(source, tmp_path / "out"), FormatError)


KILLED = """
import os, signal, sys
from weighbridge.convert.conversion import convert
def tell(what, done, of):
    if done == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
convert(sys.argv[2], sys.argv[3], shard_bytes=int(sys.argv[4]) or None, tell=tell)
"""


@contextmanager
def counted() -> Iterator[list[str]]:
    """The folders from which tensors are read."""
    read, pieces = [], contents.pieces

    def told(checkpoint: Any, tensor: Any, folder: Any) -> Iterator[bytes]:
        read.append(folder.name)
        return pieces(checkpoint, tensor, folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contents, "pieces", told)
        yield read


@pytest.mark.parametrize("form", ["safetensors", "gguf"])
@pytest.mark.parametrize("size", [0, 40_000])
def test_a_killed_run_goes_on_to_the_same_bytes(source: Path, tmp_path: Path, form: str, size: int) -> None:
    if form == "gguf":
        source = tmp_path / "m.gguf"
        write_gguf(source, [(number % 4, 20) for number in range(12)])
    convert(source, tmp_path / "whole", shard_bytes=size or None)
    want = {path.name: path.read_bytes() for path in (tmp_path / "whole").iterdir()}
    of = 2 * len(convert(source, tmp_path / "again", shard_bytes=size or None).checksums)
    for killed in (1, of // 4, of // 2, of - 1):
        out = tmp_path / f"out{killed}"
        done = run(KILLED, killed, source, out, size)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert not out.exists()
        with counted() as read:
            found = convert(source, out, shard_bytes=size or None)
        assert found.resumed == min(killed, of // 2)
        from_source = sum(not name.endswith(".part") for name in read)
        assert from_source == of // 2 - found.resumed
        assert {path.name: path.read_bytes() for path in out.iterdir()} == want
    assert not [name for name in left(tmp_path) if ".part" in name]


def test_what_was_lost_since_the_kill_is_copied_again(source: Path, tmp_path: Path) -> None:
    assert run(KILLED, 5, source, tmp_path / "out", 0).returncode == -signal.SIGKILL
    part = tmp_path / "out.part/model.safetensors"
    with part.open("r+b") as file:
        file.seek(int.from_bytes(file.read(8), "little") + 8)
        file.write(b"\xff" * 8)
    assert convert(source, tmp_path / "out").resumed == 4
    assert (tmp_path / "out/model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()


def test_unfinished_work_of_another_kind_is_not_gone_on_with(source: Path, tmp_path: Path) -> None:
    assert run(KILLED, 5, source, tmp_path / "out", 0).returncode == -signal.SIGKILL
    assert convert(source, tmp_path / "out", shard_bytes=50_000).resumed == 0
    assert left(tmp_path) == ["out", "source"]


# --- size, and files from strangers ----------------------------------------------------------------------------------

LARGE = """
import json, sys
from weighbridge.cli import main
main(["convert", *sys.argv[1:], "--json"])
"""


def test_memory_does_not_grow_with_the_tensors(tmp_path: Path) -> None:
    peaks = []
    for size in (10**6, 3 * 10**8):
        header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
        with (tmp_path / "w.safetensors").open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)
        done = run(LARGE, tmp_path / "w.safetensors", "-o", tmp_path / f"{size}.safetensors")
        peaks.append(json.loads(done.stdout)["peak_rss_bytes"])
    assert peaks[1] < peaks[0] + 40 * 2**20 and peaks[1] < 150 * 2**20, peaks


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_damaged_files_end_in_an_error_of_ours(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = tmp_path_factory.mktemp("damaged")
    name = data.draw(st.sampled_from(["m.gguf", "m.safetensors"]))
    path = place / name
    if name == "m.gguf":
        write_gguf(path, [(0, 1), (2, 1)])
    else:
        safetensors.numpy.save_file({"a": np.ones(3, "float32"), "b": np.ones(2, "uint8")}, path)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw), 3000) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw) - 1, len(raw) // 2]))])
    try:
        convert(path, place / "out", shard_bytes=data.draw(st.sampled_from([None, 1, 500])))
    except WeighbridgeError:
        assert left(place) == [name]
    else:
        assert left(place) == [name, "out"]


def test_an_alignment_beyond_reason_takes_no_memory(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_custom_alignment(2**31)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert "has no tensors" in str(refusal(tmp_path / "m.gguf", tmp_path / "n.gguf"))
    header = bytearray((tmp_path / "m.gguf").read_bytes())
    header[8:16] = (1).to_bytes(8, "little")
    header += struct.pack("<Q1sI1QIQ", 1, b"w", 1, 4, 0, 0)
    with (tmp_path / "m.gguf").open("wb") as file:  # sparse
        file.write(header)
        file.truncate(2**31 + 16)
    tracemalloc.start()
    convert(tmp_path / "m.gguf", tmp_path / "n.gguf")
    assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    tracemalloc.stop()
    (tmp_path / "n.gguf").unlink()


def test_names_reach_the_terminal_without_their_control_signs(tmp_path: Path) -> None:
    safetensors.numpy.save_file({"a\x1b[2J": np.ones(1)}, tmp_path / "m.safetensors")
    told: list[str] = []
    convert(tmp_path / "m.safetensors", tmp_path / "n.safetensors", tell=lambda what, done, of: told.append(what))
    assert len(told) == 2 and all(text.isprintable() for text in told)


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    index = {"weight_map": {"w": "../../secret.safetensors"}}
    (tmp_path / "m/model.safetensors.index.json").write_text(json.dumps(index))
    assert "points outside" in str(refusal(tmp_path / "m", tmp_path / "out"))


def test_scales_and_sizes_beside_a_tensor_are_not_lost(tmp_path: Path) -> None:
    """A quantized tensor of PyTorch would become bare integers, a sparse one two tensors without its size."""
    writer = Writer()
    hooks = Call("collections.OrderedDict", ())
    quantizer = (Global("torch.per_tensor_affine"), 0.1, 0)
    quantized = Call("torch._utils._rebuild_qtensor",
                     (writer.storage(12, "QInt8"), 0, (3, 4), (4, 1), quantizer, False, hooks))  # fmt: skip
    parts = (writer.tensor((1, 3), "Long"), writer.tensor((3,)), (3, 3))
    layout = Call("torch.serialization._get_layout", ("torch.sparse_coo",))
    sparse = Call("torch._utils._rebuild_sparse_tensor", (layout, parts))
    for name, value in {"quantized": quantized, "sparse": sparse}.items():
        file = writer.file({"w": value, "plain": writer.tensor((2,))})
        (tmp_path / f"{name}.pt").write_bytes(file.read(0, file.size))
        result = weigh(tmp_path / f"{name}.pt", "-o", tmp_path / "out.safetensors")
        assert result.exit_code == 2 and "quantized or sparse tensors" in result.stderr, result.output
        assert not (tmp_path / "out.safetensors").exists()
