"""Trains the two small English decoders of this folder from text in the public domain, on the processor.

    python examples/small_decoder/train.py TEXTS OUT [--size small|large] [--threads 2]

TEXTS is a folder with the unpacked packages `datasets-sotu` and `datasets-moby-dick` (README.md says how to get them).
OUT gets, for each size, `model.safetensors` in bf16, its configuration and tokenizer, and `log.jsonl` with the loss on
the training text and on documents that were held out. Needs torch, transformers and tokenizers. The same seed gives the
same batches; sums on several threads may still differ in their last bits.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY, CONTEXT, END = 4096, 256, "<|endoftext|>"
HELD_OUT_EVERY = 20
BATCH, STEPS, WARM_UP, PEAK_RATE = 32, 1300, 60, 3e-3
EVALUATE_EVERY, EVALUATED = 130, 6
SEED = 20261122
SIZES = {
    "small": {"num_hidden_layers": 5, "intermediate_size": 256},
    "large": {"num_hidden_layers": 4, "intermediate_size": 768},
}
"""Rows of 256 or a multiple of it, so that every encoding of llama.cpp can store them."""


def documents(folder: Path) -> tuple[list[str], list[str]]:
    """The texts to train on and those held out: every twentieth by name."""
    paths = sorted(folder.rglob("data/*.txt"), key=lambda path: path.name)
    if not paths:
        raise SystemExit(f"{folder} has no data/*.txt: unpack the packages that README.md names there")
    texts = [" ".join(path.read_text(encoding="utf-8").split()) for path in paths]
    held_out = [text for place, text in enumerate(texts) if place % HELD_OUT_EVERY == 7]
    return [text for place, text in enumerate(texts) if place % HELD_OUT_EVERY != 7], held_out


def tokenizer_of(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer whose vocabulary is learned from the training texts alone."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END)


def stream(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> np.ndarray:
    """All texts as one run of token ids, each behind the token that begins a text."""
    begin = tokenizer.convert_tokens_to_ids(END)
    return np.array([token for text in texts for token in (begin, *tokenizer(text)["input_ids"])], dtype=np.int64)


def batch_of(tokens: np.ndarray, starts: np.ndarray) -> torch.Tensor:
    """Windows of the context's length from these places."""
    return torch.from_numpy(np.stack([tokens[start : start + CONTEXT] for start in starts]))


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the next token, in nats."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(input_ids=batch[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())


@torch.inference_mode()
def held_out_loss(model: LlamaForCausalLM, tokens: np.ndarray, batches: int | None = None) -> float:
    """Mean loss over windows of the held-out text that do not overlap; the first `batches` of them."""
    starts = np.arange(0, len(tokens) - CONTEXT, CONTEXT)
    parts = [starts[place : place + BATCH] for place in range(0, len(starts) - BATCH + 1, BATCH)][:batches]
    return float(np.mean([loss_of(model, batch_of(tokens, part)).item() for part in parts]))


def train(size: str, tokenizer: PreTrainedTokenizerFast, texts: np.ndarray, held_out: np.ndarray, out: Path) -> None:
    """Trains one model and writes it."""
    torch.manual_seed(SEED)
    choose = np.random.default_rng(SEED)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=256, num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True,
        max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0, attn_implementation="eager", **SIZES[size],
    ))  # fmt: skip
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.95))
    folder = out / size
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    with (folder / "log.jsonl").open("w", encoding="utf-8") as log:
        for step in range(1, STEPS + 1):
            share = (step - WARM_UP) / (STEPS - WARM_UP)
            rate = PEAK_RATE * (step / WARM_UP if step < WARM_UP else 0.1 + 0.45 * (1 + math.cos(math.pi * share)))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = loss_of(model, batch_of(texts, choose.integers(0, len(texts) - CONTEXT, BATCH)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % EVALUATE_EVERY == 0 or step == 10:
                line = {"step": step, "tokens": step * BATCH * (CONTEXT - 1), "loss": round(loss.item(), 4),
                        "held_out_loss": round(held_out_loss(model, held_out, EVALUATED), 4),
                        "seconds": round(time.perf_counter() - began, 1)}  # fmt: skip
                log.write(json.dumps(line) + "\n")
                log.flush()
                print(size, line, flush=True)
        model = model.to(torch.bfloat16).eval()
        final = held_out_loss(model, held_out)
        line = {"parameters": sum(p.numel() for p in model.parameters()), "held_out_loss_bf16": round(final, 4),
                "perplexity": round(math.exp(final), 3), "seconds": round(time.perf_counter() - began, 1),
                "torch": torch.__version__, "threads": torch.get_num_threads()}  # fmt: skip
        log.write(json.dumps(line) + "\n")
        print(size, line, flush=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    """Reads the texts, learns the tokenizer and trains."""
    parser = argparse.ArgumentParser(description="Train two small English decoders on texts in the public domain.")
    parser.add_argument("texts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=SIZES, action="append", help="one of them; both without it")
    parser.add_argument("--threads", type=int, default=2)
    words = parser.parse_args()
    torch.set_num_threads(words.threads)
    texts, held_out = documents(words.texts)
    tokenizer = tokenizer_of(texts)
    words.out.mkdir(parents=True, exist_ok=True)
    held = "".join(json.dumps({"text": text}) + "\n" for text in held_out)
    (words.out / "held_out.jsonl").write_text(held, encoding="utf-8")
    train_tokens, held_tokens = stream(tokenizer, texts), stream(tokenizer, held_out)
    print(f"{len(texts)} texts, {len(train_tokens):,} tokens; held out {len(held_out)}, {len(held_tokens):,}")
    for size in words.size or SIZES:
        train(size, tokenizer, train_tokens, held_tokens, words.out)


if __name__ == "__main__":
    main()
