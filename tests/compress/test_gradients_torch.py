"""Do gradients tell what errors cost? Against divergence that is measured, and the whole of the Fisher information."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.compress.small_folders import saved

from weighbridge.compress import gradients
from weighbridge.compress.activations import collect, parts_of
from weighbridge.compress.sensitivity import completed, with_importance
from weighbridge.compress.targets import FolderTarget
from weighbridge.errors import ConfigError
from weighbridge.prove.engines import open_model

pytestmark = pytest.mark.torch

DECODER = Path(__file__).resolve().parents[2] / "examples" / "small_decoder"
LETTERS = "abcdefghijkl"
TEXT = "a c b d f e h g i l k j"
TIMES = 300
"""Windows that are read, all the same: their labels are drawn apart."""
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
         "max_position_embeddings": 16, "initializer_range": 0.4}  # fmt: skip


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


def words(folder: Path, special: tuple[str, ...] = ("[UNK]",)) -> None:
    """A tokenizer of letters."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors

    names = {name: number for number, name in enumerate((*special, *LETTERS))}
    made = tokenizers.Tokenizer(models.WordLevel(names, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    told = {"unk_token": "[UNK]"}
    if "[CLS]" in names:
        made.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(one, names[one]) for one in ("[CLS]", "[SEP]")])  # fmt: skip
        told |= {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "mask", "pad")}
    saved(made, folder, told)


def tiny(folder: Path, kind: str, **changes: Any) -> Path:
    """A folder with a model of 12 letters and random weights."""
    import torch
    import transformers

    is_bert = kind.startswith("Bert")
    words(folder, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if is_bert else ("[UNK]",))
    torch.manual_seed(4)
    if kind.startswith("GPT2"):
        config = transformers.GPT2Config(vocab_size=13, n_embd=16, n_layer=2, n_head=2, n_inner=24, n_positions=16,
                                         initializer_range=0.4, bos_token_id=None, eos_token_id=None,
                                         **changes)  # fmt: skip
    elif is_bert:
        config = transformers.BertConfig(vocab_size=17, **SIZES, **changes)
    else:
        config = transformers.LlamaConfig(vocab_size=13, num_key_value_heads=1, pad_token_id=None, bos_token_id=None,
                                          eos_token_id=None, **SIZES, **changes)  # fmt: skip
    getattr(transformers, kind)(config).eval().save_pretrained(folder)
    return folder


def whole(torch: Any, network: Any, tokens: list[int], hidden: list[int] | None, is_encoder: bool) -> dict[str, Any]:
    """The Fisher information of each weight in a window: over all labels by their probability, or all of a vector."""
    for weight in network.parameters():
        weight.requires_grad_(True)
    found: dict[str, Any] = {name: 0.0 for name, weight in network.named_parameters() if weight.dim() > 1}
    out = network(input_ids=torch.tensor([tokens]))
    if is_encoder:
        vector = torch.nn.functional.normalize(out.last_hidden_state[0].mean(dim=0), dim=0)
        parts = [(1.0, one) for one in vector]
    else:
        logits = out.logits[0] if hidden is None else out.logits[0, hidden]
        told = logits.log_softmax(dim=-1)
        parts = [(float(one.detach().exp()), one) for row in told for one in row]
    for share, one in parts:
        network.zero_grad()
        one.backward(retain_graph=True)
        for name, weight in network.named_parameters():
            if name in found and weight.grad is not None:
                found[name] = found[name] + share * weight.grad.double().square()
    return found


CASES: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "decoder": ("LlamaForCausalLM", {"tie_word_embeddings": False},
                {"model.layers.1.self_attn.q_proj.weight": "blk.1.attn_q.weight", "lm_head.weight": "output.weight",
                 "model.embed_tokens.weight": "token_embd.weight",
                 "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight"}),
    "tied": ("LlamaForCausalLM", {"tie_word_embeddings": True},
             {"model.embed_tokens.weight": "token_embd.weight",
              "model.layers.1.mlp.up_proj.weight": "blk.1.ffn_up.weight"}),
    "gpt2": ("GPT2LMHeadModel", {}, {"transformer.h.0.attn.c_attn.weight": "blk.0.attn_qkv.weight",
                                     "transformer.h.1.mlp.c_proj.weight": "blk.1.ffn_down.weight",
                                     "transformer.wte.weight": "token_embd.weight"}),
    "masked": ("BertForMaskedLM", {}, {"bert.encoder.layer.1.attention.self.query.weight": "blk.1.attn_q.weight",
                                       "bert.encoder.layer.0.output.dense.weight": "blk.0.ffn_down.weight"}),
    "encoder": ("BertModel", {}, {
        "encoder.layer.1.attention.self.value.weight": "blk.1.attn_v.weight",
        "embeddings.word_embeddings.weight": "token_embd.weight"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_costs_are_half_the_fisher_information(
    torch: Any, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, changes, both = CASES[case]
    folder = tiny(tmp_path / "a", kind, **changes)
    if kind == "BertModel":
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    monkeypatch.setattr(gradients, "WINDOWS", TIMES)
    monkeypatch.setattr(gradients, "WINDOW", 12 if not kind.startswith("Bert") else 14)
    model: Any = open_model(folder)
    network = model.model.float()
    shown = list(model.tokenizer(TEXT)["input_ids"])
    hidden = None
    if model.is_masked:  # the same place, whatever is drawn
        monkeypatch.setattr(random.Random, "sample", lambda self, some, count: list(some)[:count])
        hidden = [1]
        shown = [*shown[:1], model.tokenizer.mask_token_id, *shown[2:]]
    exact = whole(torch, network, shown, hidden, kind == "BertModel")
    network.zero_grad()
    most = 0

    def count(weight: Any) -> None:
        nonlocal most
        most = max(most, sum(one.grad is not None for one in network.parameters() if one.dim() > 1))

    for weight in network.parameters():
        if weight.dim() > 1:
            weight.register_post_accumulate_grad_hook(count)
    told: list[tuple[int, int]] = []

    def tell(path: str, done: int, of: int) -> None:
        told.append((done, of))
        assert all(one.grad is None for one in network.parameters())

    found = gradients.of_model(model, [TEXT] * TIMES, seed=1, tell=tell)
    model.close()
    assert told == [(number + 1, TIMES) for number in range(TIMES)] and most == 1  # one gradient at a time
    answers = {"masked": 1, "encoder": 1}.get(case, 12)
    assert found.basis == f"gradients on {TIMES * answers:,} {'texts' if case == 'encoder' else 'tokens'}"
    assert found.unit == ("1 - cosine" if case == "encoder" else "nats")
    named = dict(network.named_parameters())
    sums = 0.0, 0.0
    for name, fisher in exact.items():
        if not isinstance(fisher, float):
            expected = 0.5 * float((fisher * named[name].detach().double().square()).sum()) / answers
            if expected > 1e-6:
                assert found.costs[name] == pytest.approx(expected, rel=0.35), name
            sums = sums[0] + found.costs[name], sums[1] + expected
    assert sums[0] == pytest.approx(sums[1], rel=0.15)
    for stored, theirs in both.items():
        assert found.costs[stored] == found.costs[theirs]
        squares = exact[stored].T if "c_attn" in stored or "c_proj" in stored else exact[stored]
        columns = squares.sum(dim=0).numpy()
        assert found.columns[theirs].shape == columns.shape == (24 if "down" in theirs else 16,)
        assert np.corrcoef(found.columns[theirs], columns)[0, 1] > 0.9
        assert (found.columns[theirs] > 0).all()
        assert ("c_attn" in stored or "c_proj" in stored) is (stored not in found.columns)
    assert ("lm_head.weight" in found.costs) is (case == "decoder")


def test_maps_that_are_stored_turned_are_planned_by_their_own_rows(torch: Any, tmp_path: Path) -> None:
    folder = tiny(tmp_path / "a", "GPT2LMHeadModel")
    (tmp_path / "texts.jsonl").write_text(json.dumps({"text": TEXT}))
    model: Any = open_model(folder)
    learned = gradients.of_model(model, [TEXT])
    model.close()
    seen = collect(folder, tmp_path / "texts.jsonl").importance
    assert seen.means["blk.0.ffn_down.weight"].shape == (24,)
    made = FolderTarget(folder)
    for costs in (completed(made.tensors, learned), with_importance(made.tensors, seen, "texts")):
        options = made.options(costs)["transformer.h.0.mlp.c_proj.weight"]
        assert {one.encoding.name for one in options} == {"fp32", "bf16"} and options[1].loss > 0


def test_costs_foretell_what_noise_does(torch: Any) -> None:
    rows = [json.loads(line)["text"] for line in (DECODER / "held_out.jsonl").read_text().splitlines()]
    texts = [row[1000:2500] for row in rows[:16]]
    model: Any = open_model(DECODER / "small")
    found = gradients.of_model(model, texts, seed=1)
    network = model.model
    parts = parts_of(model, texts, 256)[:12]
    groups: dict[str, list[Any]] = {}
    for name, weight in network.named_parameters():
        if weight.dim() > 1:
            groups.setdefault(name.split(".")[-2], []).append((name, weight))
    assert len(groups) == 8
    shares = {}
    with torch.no_grad():
        before = [network(input_ids=torch.tensor([part])).logits[0].log_softmax(dim=-1) for part in parts]
        for group, members in groups.items():
            held = [weight.clone() for _, weight in members]
            lost = tokens = 0.0
            for seed in range(2):
                torch.manual_seed(seed)
                for (_, weight), kept in zip(members, held, strict=True):
                    weight.copy_(kept * (1 + 0.05 * torch.randn_like(kept)))
                for part, one in zip(parts, before, strict=True):
                    after = network(input_ids=torch.tensor([part])).logits[0].log_softmax(dim=-1)
                    lost += float((one.exp() * (one - after)).sum())
                    tokens += len(part)
            for (_, weight), kept in zip(members, held, strict=True):
                weight.copy_(kept)
            shares[group] = lost / tokens / (0.05**2 * sum(found.costs[name] for name, _ in members))
    model.close()
    assert all(0.65 < share < 1.35 for share in shares.values()), shares


def test_weights_that_are_no_numbers_are_told_of(torch: Any, tmp_path: Path) -> None:
    model: Any = open_model(tiny(tmp_path / "a", "LlamaForCausalLM"))
    with torch.no_grad():
        model.model.get_input_embeddings().weight[3] = torch.inf
    with pytest.raises(ConfigError, match="no numbers"):
        gradients.of_model(model, [TEXT])
    model.close()
