"""Does the documentation say what the program does? Commands are run, keys are compared.

The pages are taken at their word: each command of a `console` block runs on the files that the pages speak of, each
`python` block is executed, each key of a real JSON document must be in the reference and each key of the reference in a
document. Numbers in prose are counted in `test_docs_numbers.py`.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import io
import json
import re
import shlex
import shutil
import struct
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import gguf
import httpx2
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner, Result
from tests.compress import small_llama as small_llama_model
from tests.formats import hub_double
from tests.pages import (
    BLOCK,
    DEMO,
    DOCS,
    GENERATED,
    PAGES,
    ROOT,
    blocks,
    in_code,
    page_name,
    pages_with,
    read,
    small_llama,
)

import weighbridge
from weighbridge.cli import main
from weighbridge.formats import reader
from weighbridge.layer import EXAMPLES
from weighbridge.model.encodings import ENCODINGS
from weighbridge.model.families import families
from weighbridge.model.recipes import RECIPES
from weighbridge.web import server

# --- the files that the pages speak of -------------------------------------------------------------------------------


def torch_file(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """What `torch.save` writes for a state dict of fp16 tensors, laid out by hand."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    pickled = b"\x80\x02}("
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        storages = []
        for key, (name, shape) in enumerate(shapes.items()):
            strides = tuple(int(np.prod(shape[place + 1 :])) for place in range(len(shape)))
            elements = int(np.prod(shape))
            storages.append((str(key), 2 * elements))
            pickled += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(("
            pickled += text("storage") + b"ctorch\nHalfStorage\n" + text(str(key)) + text("cpu") + number(elements)
            pickled += b"tQ" + number(0) + numbers(shape) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
        archive.writestr("archive/data.pkl", pickled + b"u.")
        for name, size in storages:
            archive.writestr(f"archive/data/{name}", bytes(size))
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def write_gguf(path: Path, config: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(config["vocab_size"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_context_length(config["max_position_embeddings"])
    for name, shape in shapes.items():
        writer.add_tensor(name, np.ones(shape, "float16"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small Llama in every format, with and without its configuration, and with one that is not its own."""
    folder = tmp_path_factory.mktemp("samples")
    config = small_llama()
    described = weighbridge.inspect(config).architecture
    assert described is not None
    shapes = {tensor.name: tensor.shape for tensor in described.tensors()}
    arrays = {name: np.ones(shape, "float16") for name, shape in shapes.items()}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    own = blocks(DOCS / "how-to/plan-a-machine.md", "toml")[0]
    (folder / "my-devices.toml").write_text(own, encoding="utf-8")
    page = DOCS / "how-to/choose-a-training-size.md"
    runs = next(block for block in blocks(page, "text") if block.startswith("parameters,"))
    (folder / "runs.csv").write_text(runs, encoding="utf-8")
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    (folder / "pytorch_model.bin").write_bytes(torch_file(shapes))
    write_gguf(folder / "model.gguf", config, {t.name: t.shape for t in described.tensors("gguf")})
    for name, changes in {"model-folder": {}, "changed-folder": {"num_hidden_layers": 3}}.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
        shutil.copy(folder / "model.safetensors", folder / name)
    packed = {"q.qweight": np.ones((8, 9), "int8"), "q.scale": np.ones((8, 1), "float16")}
    safetensors.numpy.save_file(packed, folder / "packed.safetensors")
    (folder / "bare-folder").mkdir()
    bare = {**arrays, "model.position_ids": np.arange(8)}
    safetensors.numpy.save_file(bare, folder / "bare-folder/model.safetensors")
    (folder / "adapter-folder").mkdir()
    trained = {"peft_type": "LORA", "target_modules": ["q_proj"], "lora_alpha": 8, "modules_to_save": ["lm_head"]}
    (folder / "adapter-folder/adapter_config.json").write_text(json.dumps(trained), encoding="utf-8")
    low_rank = {"base_model.model.lm_head.weight": arrays["model.embed_tokens.weight"]}
    for name in (name for name in arrays if "q_proj" in name):
        outputs, inputs = arrays[name].shape
        for matrix, shape in {"A": (4, inputs), "B": (outputs, 4)}.items():
            path = f"base_model.model.{name.removesuffix('.weight')}.lora_{matrix}.weight"
            low_rank[path] = np.ones(shape, "float16")
    safetensors.numpy.save_file(low_rank, folder / "adapter-folder/adapter_model.safetensors")
    (folder / "newest").mkdir()
    unknown = {**config, "model_type": "newest_llm", "architectures": ["NewestForCausalLM"]}
    (folder / "newest/config.json").write_text(json.dumps(unknown), encoding="utf-8")
    parts = {"text_encoder": {"model_type": "clip_text_model", "hidden_size": 32, "num_attention_heads": 4},
             "unet": {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 32, "sample_size": 16}}  # fmt: skip
    for name, part in parts.items():
        (folder / "pipeline-folder" / name).mkdir(parents=True)
        (folder / "pipeline-folder" / name / "config.json").write_text(json.dumps(part), encoding="utf-8")
    index = {"_class_name": "StableDiffusionPipeline", **{name: ["library", "Class"] for name in parts}}
    (folder / "pipeline-folder/model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.fixture
def here(samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a fresh copy of the samples."""
    shutil.copytree(samples, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(samples: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A double of the hub with the repository `org/name`, which is the tutorial's model."""
    files = {file.name: file.read_bytes() for file in (samples / "model-folder").iterdir()}
    with hub_double.serve({"org/name": files}) as double:
        monkeypatch.setenv("HF_ENDPOINT", double.endpoint)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        yield double.endpoint


def weigh(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="weigh")


def weigh_json(*arguments: str) -> Any:
    result = weigh(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "pytorch_model.bin", "model-folder"])
def test_the_samples_are_the_tutorials_model(here: Path, name: str) -> None:
    found = weighbridge.inspect(name)
    assert found.parameters.total == weighbridge.inspect("config.json").parameters.total
    assert found.reconciliation.status.value == "agrees", found.reconciliation


# --- the generated reference, and what it is generated from ----------------------------------------------------------


def load_generator() -> Any:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert load_generator().main(["--check"]) == 0, capsys.readouterr().out


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None, name
            yield from commands(below, f"{path} {name}")


COMMANDS = dict(commands(main, "weigh"))


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_is_documented(path: str) -> None:
    sections = dict(
        re.findall(r"^## `(.*?)`\n(.*?)(?=^## |\Z)", read("docs/reference/cli.md"), re.DOTALL | re.MULTILINE)
    )
    assert path in sections
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for spelling in parameter.opts:
                assert re.search(rf"(?m)^ .*(?<![\w-]){re.escape(spelling)}(?![\w-])", sections[path]), spelling
        elif isinstance(parameter, click.Argument):
            assert re.search(rf"(?m)^Usage: .*{re.escape(parameter.make_metavar(click.Context(main)))}", sections[path])


@pytest.mark.parametrize("path", COMMANDS)
def test_documented_help_is_what_the_terminal_shows(path: str) -> None:
    shown = CliRunner().invoke(main, [*path.split()[1:], "--help"], prog_name="weigh", terminal_width=100)
    assert shown.exit_code == 0
    text = "\n".join(line.rstrip() for line in shown.stdout.splitlines()).strip()
    assert f"## `{path}`\n\n```text\n{text}\n```" in read("docs/reference/cli.md")


def test_what_is_said_of_json_is_true_of_every_command() -> None:
    """The pages say that every command but `weigh web` takes --json."""
    leaves = {path: command for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
    takes = {path for path, command in leaves.items() if any("--json" in p.opts for p in command.params)}
    assert leaves.keys() - takes == {"weigh web"}


def test_every_option_but_help_and_json_is_shown_in_use() -> None:
    told = "\n".join(text for path in PAGES for text in (*blocks(path, "console"), *blocks(path, "bash")))
    for path, command in COMMANDS.items():
        assert path in told, f"no page shows {path}"
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.opts[0] not in ("--help", "--version", "--json"):
                assert any(re.search(rf"(?m)^.*{path}.* {re.escape(o)}\b", told) for o in parameter.opts), (
                    path,
                    parameter,
                )


# --- formats, families, encodings, recipes, layers -------------------------------------------------------------------


def test_every_readable_format_is_documented() -> None:
    text = read("docs/reference/formats.md")
    endings = {f"*{suffix}" for suffix in (*reader.TORCH_SUFFIXES, *reader.OTHER_SUFFIXES)}
    words = endings | set(re.findall(r"\*(?:\.\w+)+", reader.READABLE))
    assert {"*.safetensors", "*.gguf", "*.bin"} <= words
    for word in sorted(words | {"config.json"}):
        assert in_code(word, text), word
    assert "folder of a model" in reader.READABLE
    assert "folder of a model" in text


def test_every_source_of_the_command_is_readable() -> None:
    for name in re.findall(r"\*(\.\w+)", COMMANDS["weigh inspect"].help or ""):
        assert f"*{name}" in reader.READABLE, name


def test_every_family_is_documented() -> None:
    text = read("docs/reference/families.md")
    for family in families():
        row = next((line for line in text.splitlines() if line.startswith(f"| `{family.name}` |")), "")
        assert family.title in row, family.name
        for name in (*family.model_types, *family.gguf):
            assert in_code(name, row), (family.name, name)


def test_the_readme_says_how_many_model_types_are_described() -> None:
    described = [name for family in families() for name in family.model_types]
    limits = read("README.md").split("## Limits")[1]
    assert f"{len(described)} model types" in limits and "docs/reference/families.md" in limits
    assert len(described) == len(set(described))


@pytest.mark.parametrize(("title", "names"), [("encodings", list(ENCODINGS)), ("recipes", list(RECIPES))])
def test_every_encoding_and_recipe_is_documented(title: str, names: list[str]) -> None:
    text = read("docs/concepts/encodings-and-recipes.md")
    part = next(p[0] for p in GENERATED.finditer(text) if p[0].startswith(f"<!-- generated: {title} -->"))
    assert re.findall(r"(?m)^\| `(.*?)` \|", part) == names


def test_options_of_layers_are_documented() -> None:
    part = read("docs/concepts/layers.md").split("## Every kind")[0]
    for option in ("bias", "nobias", "gated", "bidirectional", "groups=G", "kv=G", "head=E", "layers=N", "biases=1"):
        assert in_code(option, part), option


# --- JSON ------------------------------------------------------------------------------------------------------------


def paths(document: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a document with the keys above it; list items are `[]`."""
    if isinstance(document, list):
        for item in document:
            if isinstance(item, dict):
                yield from paths(item, f"{prefix}[]" if prefix else "")
    elif isinstance(document, dict):
        for key, value in document.items():
            path = f"{prefix}.{key}" if prefix else key
            yield path
            yield from paths(value, path)


def documented_paths(title: str) -> list[str]:
    """The keys in the tables of a section, under the path that the table's heading names."""
    section = re.search(
        rf"^## `{re.escape(title)}`\n(.*?)(?=^## |\Z)", read("docs/reference/json.md"), re.DOTALL | re.MULTILINE
    )
    assert section is not None, title
    found, prefix = [], ""
    for line in section[1].splitlines():
        if line.startswith("### "):
            heading = re.fullmatch(r"### `(.*)`", line)
            prefix = f"{heading[1]}." if heading else ""
        elif row := re.match(r"\| `(.*?)`", line):
            found.append(prefix + row[1])
    return found


def undocumented(document: Any, known: list[str]) -> list[str]:
    """Keys of a document that no documented path describes; `<...>` stands for any key, `<keys>` for keys below too."""
    opened = [re.escape(path).replace(r"\<", "<").replace("<keys>", ".+") for path in known]
    patterns = [re.compile(re.sub(r"<[^>]*>", r"[^.\\[\\]]+", path)) for path in opened]
    return sorted({path for path in paths(document) if not any(p.fullmatch(path) for p in patterns)})


def never_seen(documents: list[Any], known: list[str]) -> list[str]:
    """Documented paths that no document has."""
    seen = {path for document in documents for path in paths(document)}
    return [path for path in known if "<" not in path and path not in seen]


def test_every_key_of_inspect_is_documented_and_real(here: Path, hub: str) -> None:
    twins = np.arange(6.0).reshape(2, 3)
    safetensors.numpy.save_file({"a": twins, "b": twins.copy()}, "twins.safetensors")
    documents = [
        weigh_json("inspect", "config.json"),
        weigh_json("inspect", "bare-folder/model.safetensors"),
        weigh_json("inspect", "model.gguf"),
        weigh_json("inspect", "pytorch_model.bin", "--values"),
        weigh_json("inspect", "changed-folder", "--tensors", "--values"),
        weigh_json("inspect", "pipeline-folder", "--steps", "50"),
        weigh_json("inspect", "adapter-folder", "--base", "model-folder"),
        weigh_json("inspect", "twins.safetensors", "--values"),
        weigh_json("inspect", "packed.safetensors", "--tensors"),
        weigh_json("inspect", "org/name"),
    ]
    assert documents[1]["family"] is None, "the bare file is described after all"
    assert documents[4]["reconciliation"]["differences"], "the changed folder does not differ"
    known = documented_paths("weigh inspect")
    for document in documents:
        assert undocumented(document, known) == []
    assert never_seen(documents, known) == []


@pytest.mark.parametrize(
    ("command", "calls"),
    [
        (
            "layer",
            [[spec] for examples in EXAMPLES.values() for spec in examples.split(" or ")] + [["relu", "prelu:4"]],
        ),
        ("compare", [["gpt-2", "palm-540b", "gpt-4", "--context", "100"]]),
        ("models", [[]]),
        ("history", [[], ["gpt-2", "gpt-4"]]),
        ("design", [["--parameters", "1.3B", "--vocab", "50k"]]),
        ("encodings", [[]]),
        ("families", [[]]),
        (
            "fit",
            [
                ["llama-3.1-8b", "--on", "rtx-4090", "--weights", "q4_k_m"],
                ["mixtral-8x7b", "--on", "h100-sxm", "--devices", "2", "--concurrency", "8"],
                ["llama-3.1-8b", "--on", "mi350p"],
                ["llama-3.1-8b", "--on", "h100-sxm", "--kv", "fp8", "--launch", "tensorrt-llm"],
            ],
        ),
        (
            "energy",
            [
                ["llama-2-7b", "--on", "a100-sxm-80", "--requests-per-day", "10M", "--idle-watts", "60"],
                ["--watts", "50-100", "--seconds", "0.5-1", "--claim", "60J"],
            ],
        ),
        (
            "load",
            [
                [
                    "llama-3.1-8b",
                    "--on",
                    "h100-sxm",
                    "--rate",
                    "1",
                    "--duration",
                    "90min",
                    "--slo",
                    "ttft=2s",
                    "--availability",
                    "0.999",
                ],
                ["llama-3.1-8b", "--on", "h100-sxm", "--concurrency", "8"],
            ],
        ),
        ("grids", [[]]),
        ("scaling laws", [[]]),
        ("scaling optimum", [["--flops", "1e22", "--served", "1T", "--unique", "10B"]]),
        ("scaling loss", [["--parameters", "70B", "--tokens", "2T", "--unique", "1T"]]),
        ("scaling gain", [["--parameters", "70B"]]),
        ("scaling exponent", [["175B=4.6M", "540B=15M-20M"]]),
        ("scaling supply", [["--tokens", "400T"]]),
        ("scaling claims", [[]]),
        ("explain", [[], ["kv", "cache"], ["q22"], ["myth6"], ["--questions"], ["--myths"], ["sft"]]),
        ("explain --settings", [["deepseek-v3"]]),
        (
            "cost",
            [
                [
                    "llama-3.1-8b",
                    "--on",
                    "p5.48xlarge",
                    "--requests-per-day",
                    "1M",
                    "--years",
                    "2",
                    "--api",
                    "gpt-4",
                    "--accuracy",
                    "0.9",
                    "--accuracy",
                    "gpt-4=0.1",
                    "--api",
                    "groq/llama-3.1-8b",
                    "--storage",
                    "140GB",
                    "--accuracy",
                    "groq/llama-3.1-8b=0.001",
                    "--egress",
                    "1TB",
                    "--item",
                    "upkeep=900/month",
                ],
                ["llama-3.1-8b", "--on", "mi350p", "--api", "gpt-4o"],
            ],
        ),
        (
            "train",
            [
                [
                    "llama-3.1-8b",
                    "--tokens",
                    "1T",
                    "--on",
                    "h100-sxm",
                    "--devices",
                    "3",
                    "--claimed-hours",
                    "900000",
                    "--trials",
                    "0.2",
                    "--checkpoints",
                    "3",
                    "--item",
                    "data=5000",
                ],
                ["7B", "--tokens", "1B", "--on", "h100-sxm", "--devices", "2", "--method", "lora", "--unique", "1M"],
            ],
        ),
        ("train --compare", [["llama-2-7b", "--tokens", "10M", "--on", "a100-80", "--seq", "512", "--item", "a=5"]]),
        (
            "thresholds",
            [
                ["--parameters", "10B", "--date", "2026-11-23"],
                ["gpt-3", "--tokens", "300B", "--original-flops", "1e24"],
            ],
        ),
        ("prices", [[], ["p4d"]]),
        ("fit --within", [["1GB", "llama-3.2-1b"]]),
        ("devices", [[], ["apple"]]),
        ("devices --for", [["llama-3.1-8b", "--most", "400"]]),
        ("models --on", [["rtx-4090", "--weights", "q4_k_m"]]),
        ("completion", [["bash"], ["zsh"], ["fish"]]),
    ],
)
def test_every_key_of_the_other_commands_is_documented_and_real(command: str, calls: list[list[str]]) -> None:
    documents = [weigh_json(*command.split(), *arguments) for arguments in calls]
    known = documented_paths(f"weigh {command}")
    for document in documents:
        assert undocumented(document, known) == []
    assert never_seen(documents, known) == []


def test_every_key_of_a_fitted_law_is_documented_and_real(here: Path) -> None:
    documents = [weigh_json("scaling", "fit", "runs.csv", "--predict", "7B,1T", "--bootstrap", "20")]
    losses = (3.1, 2.9, 3.3, 2.8, 3.2, 3.0, 2.95)
    few = [f"{1 + place % 3}B,{20 + 9 * place}B,{loss}" for place, loss in enumerate(losses)]
    Path("few.csv").write_text("\n".join(["parameters,tokens,loss", *few]), encoding="utf-8")
    documents.append(json.loads(weigh("scaling", "fit", "few.csv", "--bootstrap", "20", "--json").stdout))
    known = documented_paths("weigh scaling fit")
    for document in documents:
        assert undocumented(document, known) == []
    assert never_seen(documents, known) == [] and documents[1]["undecided"]


def test_every_key_of_convert_is_documented_and_real(here: Path) -> None:
    config = json.loads(Path("model-folder/config.json").read_text(encoding="utf-8"))
    arrays = safetensors.numpy.load_file("model-folder/model.safetensors")
    arrays["lm_head.weight"] = arrays["model.embed_tokens.weight"]
    safetensors.numpy.save_file(arrays, "model-folder/model.safetensors")
    Path("model-folder/config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8")
    document = weigh_json("convert", "model-folder", "-o", "out", "--drop-tied")
    known = documented_paths("weigh convert")
    assert undocumented(document, known) == [] and never_seen([document], known) == []


def test_every_key_of_imatrix_is_documented_and_real(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    source, texts = small_llama_model.write_gguf(tmp_path / "a.gguf", small_llama_model.weights()), tmp_path / "a.txt"
    texts.write_text("The quick brown fox.")
    document = weigh_json("imatrix", str(source), "--on", str(texts), "-o", str(tmp_path / "imatrix.gguf"))
    known = documented_paths("weigh imatrix")
    assert undocumented(document, known) == [] and never_seen([document], known) == []


def test_the_json_reference_covers_every_command() -> None:
    titles = set(re.findall(r"(?m)^## `(weigh \w+(?: \w+)?)(?: --\w+)?`$", read("docs/reference/json.md")))
    leaves = {path for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
    assert titles == leaves - {"weigh web"}


def test_words_of_the_json_document_are_documented(here: Path) -> None:
    text = read("docs/reference/json.md")
    settings = {**small_llama(), "attention_dropout": 0.1, "use_cache": True, "comment": ""}
    Path("settings.json").write_text(json.dumps(settings), encoding="utf-8")
    for name in ("settings.json", "model.gguf", "model.safetensors", "pytorch_model.bin", "changed-folder"):
        document = weigh_json("inspect", name)
        words = {document["format"], document["reconciliation"]["status"], *document["settings"].values()}
        words |= {difference["kind"] for difference in document["reconciliation"]["differences"]}
        words |= set(document["basis"].values())
        for word in words - {"exact", "specified"}:
            assert in_code(word, text), word
    bases = read("docs/concepts/basis-of-a-number.md")
    for word in ("exact", "specified", "measured", "modelled", "assumed"):
        assert re.search(rf"(?m)^{word}\n: ", bases), word


# --- HTTP ------------------------------------------------------------------------------------------------------------


BASE = f"http://{server.HOST}:8711"


def request(method: str, address: str, **options: Any) -> httpx2.Response:
    """What `weigh web` answers, without a socket."""

    async def send() -> httpx2.Response:
        transport = httpx2.ASGITransport(app=server.application())
        async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
            return await client.request(method, address, **options)

    return asyncio.run(send())


def test_every_route_is_documented() -> None:
    told = set(re.findall(r"(?m)^\| `([A-Z]+) (/\S*)` \|", read("docs/reference/http.md")))
    routes = {(method, str(getattr(route, "path", ""))) for route in server.application().routes
              for method in getattr(route, "methods", None) or () if method != "HEAD"}  # fmt: skip
    assert told == routes


def test_http_answers_are_those_of_the_command_line(here: Path) -> None:
    over_http = request("POST", "/api/inspect?context=4096", content=Path("config.json").read_bytes()).json()
    assert over_http["source"] == "config"
    assert over_http | {"source": "config.json"} == weigh_json("inspect", "config.json", "--context", "4096")
    assert request("GET", "/api/layer?spec=linear:100x50").json() == weigh_json("layer", "linear:100x50")
    query = "model=llama-3.1-8b&on=rtx-4090&weights=q4_k_m&context=8k&gpu_layers=20&utilization=0.8"
    options = ["--weights", "q4_k_m", "--context", "8k", "--gpu-layers", "20", "--utilization", "0.8"]
    plan = weigh_json("fit", "llama-3.1-8b", "--on", "rtx-4090", *options)
    assert request("GET", f"/api/fit?{query}").json() == plan
    assert request("GET", "/api/devices?text=h100").json() == weigh_json("devices", "h100")
    query = "model=llama-3.1-8b&on=h100-sxm&concurrency=8&think=2s&output_cv=0.5&seed=3"
    options = ["--concurrency", "8", "--think", "2s", "--output-cv", "0.5", "--seed", "3"]
    assert request("GET", f"/api/load?{query}").json() == weigh_json(
        "load", "llama-3.1-8b", "--on", "h100-sxm", *options
    )


@pytest.mark.parametrize("command", ["fit", "load"])
def test_http_takes_every_option_of_a_plan_and_of_a_load(command: str) -> None:
    rows = {name: next(line for line in read("docs/reference/http.md").splitlines()
                       if line.startswith(f"| `GET /api/{name}`")) for name in ("fit", "load")}  # fmt: skip
    told = rows["fit"] if command == "fit" else "".join(rows.values())
    for parameter in COMMANDS[f"weigh {command}"].params:
        name = max(parameter.opts, key=len).removeprefix("--").replace("-", "_")
        elsewhere = (
            "on",
            "within",
            "devices_file",
            "adapter",
            "set",
            "launch",
            "svg",
            "html",
            "plain",
            "log",
            "report",
            "json",
            "help",
        )
        if isinstance(parameter, click.Option) and name not in elsewhere:
            assert in_code(name, told), name


def test_http_refusals_are_as_documented() -> None:
    bad = "/api/fit?model=llama-3.1-8b&on=rtx-4090&"
    for answer in (request("POST", "/api/inspect", content=b"{}"), request("GET", "/api/layer"),
                   request("GET", bad + "devices_file=x"), request("GET", bad + "utilization=all"),
                   request("GET", "/api/load?model=llama-3.1-8b&on=h100-sxm&rate=100&duration=1h"),
                   request("GET", "/api/fit?model=./config.json&on=rtx-4090"), request("GET", "/api/fit"),
                   request("POST", "/api/inspect", content=b" " * (16_777_216 + 1))):  # fmt: skip
        assert answer.status_code == 400
        assert list(answer.json()) == ["error"]
    assert request("POST", "/", data={"config": "{"}).status_code == 400
    assert request("GET", "/", headers={"host": "elsewhere.example"}).status_code == 400
    assert "16,777,216" in read("docs/reference/http.md")
    assert server.HOST == "127.0.0.1"
    port = next(p.default for p in COMMANDS["weigh web"].params if p.name == "port")
    assert f"port {port}" in read("docs/reference/http.md")


# --- what the pages tell the reader to type --------------------------------------------------------------------------

NOT_RUN = ("python3 -m venv ", ".venv/bin/pip install ", ".venv/bin/python docs/generate.py")
"""Installation, which `.ci/run` does, and the generator of these pages, which a test of its own checks."""


def targets() -> set[str]:
    return set(re.findall(r"(?m)^([a-z][a-z-]*):(?!=)", read("Makefile")))


def sessions(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the output lines that follow it."""
    lines = text.splitlines()
    assert lines[0].startswith("$ "), "a console block begins with a command"
    command, output = lines[0], list[str]()
    for line in lines[1:]:
        if line.startswith("$ "):
            yield command[2:].split("  #")[0].strip(), output
            command, output = line, []
        else:
            output.append(line)
    yield command[2:].split("  #")[0].strip(), output


def curl(command: str) -> None:
    words = shlex.split(command)[1:]
    content = None
    if words[0] == "--data-binary":
        content = Path(words[1].removeprefix("@")).read_bytes()
        words = words[2:]
    (address,) = words
    assert urlsplit(address).netloc == f"{server.HOST}:8711"
    answer = request("GET", address) if content is None else request("POST", address, content=content)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("path", pages_with("console"))
def test_commands_in_the_pages_run(path: Path, here: Path, hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[int] = []
    monkeypatch.setattr(server, "serve", lambda port, tell: served.append(port))
    for block in blocks(path, "console"):
        result: Result | None = None
        codes = [(command, output) for command, output in sessions(block)]
        for place, (command, output) in enumerate(codes):
            words = shlex.split(command)
            if words[0] in ("weigh", ".venv/bin/weigh"):
                assert not {"|", ">", "<", "&&"} & set(words), command
                result = weigh(*words[1:])
                follows = codes[place + 1] if place + 1 < len(codes) else ("", [])
                expected = int(follows[1][0]) if follows[0] == "echo $?" else 0
                assert result.exit_code == expected, f"{command}: {result.output}{result.exception!r}"
                if output:
                    shown = [line.rstrip() for line in result.stdout.splitlines()]
                    assert [line.rstrip() for line in output] == shown, command
                if "--json" in words:
                    json.loads(result.stdout)
                for option in ("--svg", "--html"):
                    if option in words:
                        assert Path(words[words.index(option) + 1]).stat().st_size
            elif command == "echo $?":
                assert result is not None
                assert output == [str(result.exit_code)], command
            elif words[0] == "curl":
                curl(command)
            elif words[0] == "make":
                assert words[1] in targets(), command
            else:
                assert command.startswith(NOT_RUN), f"{command}: this test does not know how to run it"
    assert len(served) == sum(text.count("$ weigh web") for text in blocks(path, "console"))


def run_python(source: str, names: dict[str, Any]) -> None:
    """Executes a block; an expression with a comment behind it must have the value that the comment says."""
    lines = source.splitlines()
    for statement in ast.parse(source).body:
        text = ast.get_source_segment(source, statement)
        assert text is not None
        assert statement.end_lineno is not None
        comment = lines[statement.end_lineno - 1].partition("  # ")[2]
        if isinstance(statement, ast.Expr):
            value = eval(compile(ast.Expression(statement.value), "<page>", "eval"), names)
            assert not comment or repr(value) == comment, text
        else:
            exec(compile(ast.Module([statement], []), "<page>", "exec"), names)


@pytest.mark.parametrize("path", pages_with("python"))
def test_python_in_the_pages_runs(path: Path, here: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(path, "python"):
        run_python(block, names)


def test_the_result_of_the_notebook_page_draws_itself(here: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks(DOCS / "how-to/show-in-a-notebook.md", "python"):
        run_python(block, names)
    assert names["inspection"]._repr_html_() == names["html"]
    assert names["html"] in names["page"]


@pytest.mark.parametrize("path", pages_with("json"))
def test_json_in_the_pages_is_json(path: Path) -> None:
    for block in blocks(path, "json"):
        json.loads(block)


# --- what the README promises ----------------------------------------------------------------------------------------


def test_readme_and_contributing_name_targets_of_the_makefile() -> None:
    assert {"demo", "test", "docs"} <= targets()
    for page in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", DEMO.sub("", read(page))))
        assert named, page
        assert named <= targets(), page


def test_installation_page_is_that_of_the_package() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    text = read("docs/how-to/install.md")
    needed = [re.split(r"[<>=;\[ ]", dependency)[0] for dependency in project["dependencies"]]
    sentence = re.search(r"needs ([\w, ]+)\. Extras", " ".join(text.split()))
    assert sentence is not None
    assert sorted(re.split(r", | and ", sentence[1])) == sorted(needed)
    extras = {name for name, members in project["optional-dependencies"].items() if members}
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", text)) == extras
    version = project["requires-python"].removeprefix(">=")
    for page in ("README.md", "docs/how-to/install.md", "docs/tutorial/first-weighing.md"):
        assert f"Python {version} or later" in " ".join(read(page).split()), page


# --- links -----------------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    titles = re.findall(r"(?m)^#+ (.*)$", BLOCK.sub("", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [pytest.param(p, id=page_name(p)) for p in (*PAGES, *sorted(ROOT.glob("C*.md")))])
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", path.read_text(encoding="utf-8"))):
        if urlsplit(target).scheme:
            continue
        name, _, anchor = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        assert place.exists(), target
        assert place.is_relative_to(ROOT), target
        if anchor:
            assert anchor in anchors(place), target


def test_every_page_is_reached_from_the_index() -> None:
    """Each page stands in one of the lists of contents, as the builder needs it."""
    listed = {DOCS / "index.md"}
    for path in DOCS.rglob("*.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.splitlines():
                if line and not line.startswith(":"):
                    listed |= set(path.parent.glob(f"{line}.md"))
    assert set(DOCS.rglob("*.md")) == listed


def test_pages_name_no_place_of_one_machine() -> None:
    for path in PAGES:
        found = re.search(r"(?<![\w.])/(?:home|root|work|Users|opt|mnt)/\S+", path.read_text(encoding="utf-8"))
        assert found is None, f"{page_name(path)}: {found}"
