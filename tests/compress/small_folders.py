"""Small folders of safetensors with tokenizers that are trained on the spot, for tests of their conversion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TEXTS = (
    "The capital of France is Paris.\n\nIt has 2,102,650 inhabitants (2023).  Two spaces,\ttab,\r\n crlf",
    "Größe: naïve café, 東京 🚀😶‍🌫️ ﬁ ½ ١٢٣",
    "I've been 'told he's there, 'RE you sure? We'Ve a'lL 3 33 333 3333 33333",
    "def f(x):\n    return x**2  # ------=======\n\n\n",
    "   a text with   spaces at both ends   ",
    "!!!???''''````\"\"\"\"......",
)
"""Unicode, digits, spaces, line ends and signs."""
UNSEEN = (
    "нещо на Български កាន់តែពិសេស 我想在apple工作1314151天～ 🦙",
    "We said: \u00a0it\u2019ll \u0301e\u0301\x0b \x7f <0x41>",
)
"""What no tokenizer here was trained on."""
SPACE = "\u2581"
LLAMA_3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
           r"\s*[\r\n]+|\s+(?!\S)|\s+")  # fmt: skip
"""What the tokenizer.json of Llama 3 cuts texts by."""
QWEN_2 = LLAMA_3.replace("{1,3}", "")


def byte_level(path: Path, cut: str = "", *, digits: bool = False, ignore_merges: bool = False, size: int = 400) -> Any:
    """A byte-level BPE with one special and one plain added token; it writes nothing around a text."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if digits else []
    if cut:
        steps.append(pre_tokenizers.Split(tokenizers.Regex(cut), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not cut))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<|end|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())  # fmt: skip
    made.train_from_iterator(TEXTS * 3, trainer)
    made.add_tokens([tokenizers.AddedToken("<think>", normalized=False)])
    return saved(made, path, {"bos_token": "<|end|>", "eos_token": "<|end|>"})


def sentence_piece(path: Path, *, legacy: bool = True, size: int = 500) -> Any:
    """A BPE over characters with bytes for what is unknown, whose merges are all that its tokens allow."""
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors, trainers

    scratch = tokenizers.Tokenizer(models.BPE())
    scratch.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "never")
    trainer = trainers.BpeTrainer(vocab_size=size - 259, show_progress=False, limit_alphabet=90)
    scratch.train_from_iterator(TEXTS * 3, trainer)
    words = sorted(scratch.get_vocab().items(), key=lambda item: item[1])
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *(name for name, _ in words)]
    vocabulary = {name: number for number, name in enumerate(names)}
    merges = [(name[:cut], name[cut:]) for name, _ in words for cut in range(1, len(name))
              if name[:cut] in vocabulary and name[cut:] in vocabulary]  # fmt: skip
    made = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    if legacy:
        made.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, "first", split=False)
    made.add_special_tokens(["<unk>", "<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return saved(made, path, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def word_piece(path: Path, *, lower: bool = True, size: int = 300) -> Any:
    """BERT's tokenizer."""
    import tokenizers
    from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    made.train_from_iterator(TEXTS * 3, trainer)
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]",
                                                        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])  # fmt: skip
    names = ("pad", "unk", "cls", "sep", "mask")
    return saved(made, path, {f"{name}_token": text for name, text in zip(names, special, strict=True)})


def saved(made: Any, path: Path, settings: dict[str, Any]) -> Any:
    path.mkdir(exist_ok=True)
    made.save(str(path / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return made


LETTERS, PIECES = range(1, 90), range(259, 500)
"""Tokens that are whole letters, of `byte_level` and of `sentence_piece`."""
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 96,
         "hidden_act": "silu", "max_position_embeddings": 512, "rope_theta": 5000.0, "rms_norm_eps": 1e-5,
         "tie_word_embeddings": False}  # fmt: skip


def llama(
    path: Path, rows: int, shards: int = 1, dtype: str = "<f4", letters: range = LETTERS, **settings: Any
) -> dict[str, NDArray[Any]]:
    """A folder of Llama's wiring, written by hand, that gives only whole letters; its weights."""
    from safetensors.numpy import save_file

    path.mkdir(exist_ok=True)
    config = {**LLAMA, "vocab_size": rows, **settings}
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, 64), "model.norm.weight": (64,)}
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (rows, 64)
    for layer in range(2):
        own = {"self_attn.q_proj.weight": (32, 64), "self_attn.k_proj.weight": (16, 64),
               "self_attn.v_proj.weight": (16, 64), "self_attn.o_proj.weight": (64, 32),
               "mlp.gate_proj.weight": (96, 64), "mlp.up_proj.weight": (96, 64), "mlp.down_proj.weight": (64, 96),
               "input_layernorm.weight": (64,), "post_attention_layernorm.weight": (64,)}  # fmt: skip
        if config.get("attention_bias"):
            own |= {
                f"self_attn.{name}_proj.bias": (size,) for name, size in (("q", 32), ("k", 16), ("v", 16), ("o", 64))
            }
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in own.items()}
    generator = np.random.default_rng(3)
    weights = {name: generator.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    if "lm_head.weight" in weights:  # llama.cpp's server says nothing of a token that is half of a letter
        weights["lm_head.weight"] *= np.isin(np.arange(rows), letters)[:, None] * 0.99 + 0.01
    names = sorted(weights)
    for number in range(shards):
        end = f"-{number + 1:05}-of-{shards:05}" if shards > 1 else ""
        save_file({name: weights[name] for name in names[number::shards]}, path / f"model{end}.safetensors")
    if shards > 1:
        places = {
            name: f"model-{number % shards + 1:05}-of-{shards:05}.safetensors" for number, name in enumerate(names)
        }
        (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return weights
