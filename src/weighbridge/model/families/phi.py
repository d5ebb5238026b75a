"""Phi-1, 1.5 and 2: attention and feed-forward in parallel after one LayerNorm, biases throughout, head with a bias.

Source: transformers `models/phi/{configuration,modeling}_phi.py`. `mixformer-sequential` and `phi-msft` are the
spellings of the first releases, with fused attention and other names: the former numbers everything as a sequence
(0 is the embedding, the head comes last), as in `modeling_mixformer_sequential.py` beside those weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, GgufMeaning, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


@dataclass(frozen=True, slots=True)
class _Spelling:
    """Names of the parts; `layer` of a first release counts from 1 where `shift` is 1."""

    prefix: str
    embedding: str
    layer: str
    norm: str
    attention: str
    projections: tuple[str, ...]
    final_norm: str
    head: str
    base: str
    shift: int = 0


def _spelling(model_type: str, num_layers: int) -> _Spelling:
    if model_type == "phi":
        return _Spelling("Phi", "model.embed_tokens", "model.layers.{layer}.", "input_layernorm", "self_attn",
                         ("q_proj", "k_proj", "v_proj", "dense"), "model.final_layernorm", "lm_head",
                         "model.")  # fmt: skip
    if model_type == "phi-msft":
        return _Spelling("Phi", "transformer.embd.wte", "transformer.h.{layer}.", "ln", "mixer", ("Wqkv", "out_proj"),
                         "lm_head.ln", "lm_head.linear", "transformer.")  # fmt: skip
    last = f"layers.{num_layers + 1}."
    return _Spelling("MixFormerSequential", "layers.0.wte", "layers.{layer}.", "ln", "mixer", ("Wqkv", "out_proj"),
                     last + "ln", last + "linear", "", 1)  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    _check(hyperparameters)
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    num_kv_heads = hyperparameters.count("num_kv_heads", num_heads)
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    names = _spelling(hyperparameters.model_type, num_layers)
    head_dim = hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim,
                          names=names.projections, qkv_bias=True, output_bias=True)  # fmt: skip
    inner = hyperparameters.count("intermediate_size", None if hyperparameters.model_type == "phi" else 4 * hidden)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="fc1", down="fc2", bias=True)
    classifies = hyperparameters.classes[:1] == ("PhiForSequenceClassification",)
    head = language_head(hyperparameters, (names.prefix,), embedding=names.embedding + ".weight", path=names.head,
                         bias=not classifies)  # fmt: skip
    norm, layers = Norm(width=hidden), range(num_layers)

    def part(name: str, block: Block) -> list[Placement]:
        return _placed(names, name, block, layers)

    width = hyperparameters.divided("head_dim", hidden, num_heads)
    normed = hyperparameters.flag("qk_layernorm", False)
    return Architecture(
        family="phi",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(names.embedding, Embedding(rows=vocab, width=hidden)),
            *part(names.norm, replace(norm, role="attention_norm")),
            *part(names.attention, attention),
            *(part(names.attention + ".q_layernorm", Norm(width=width, role="attention_q_norm")) if normed else ()),
            *(part(names.attention + ".k_layernorm", Norm(width=width, role="attention_k_norm")) if normed else ()),
            *part("mlp", feed_forward),
            Placement(names.final_norm, replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        base_prefix=names.base,
        tie_embeddings=head.tied,
        gguf_architecture="phi2" if hyperparameters.model_type == "phi" and not normed else None,
        notes=head.notes,
    )


def _placed(names: _Spelling, name: str, block: Block, layers: Sequence[int]) -> list[Placement]:
    if not names.shift:
        return [Placement(names.layer + name, block, layers)]
    return [
        Placement(names.layer.format(layer=layer + names.shift) + name, block, layers[layer : layer + 1])
        for layer in layers
    ]


def _check(hyperparameters: Hyperparameters) -> None:
    """The first releases could be other models too, and had no bare class."""
    if hyperparameters.model_type == "phi":
        return
    hyperparameters.refuse("qk_layernorm", "which the first releases do not have")
    block = hyperparameters.settings.get("architecture")
    kind = block.get("block_cls", "parallel") if isinstance(block, dict) else "parallel" if block is None else block
    if kind != "parallel":
        read = f"{hyperparameters.source} has architecture = {repr(block)[:60]}"
        raise ConfigError(read, "blocks with block_cls parallel", "weigh the weight files themselves")
    if hyperparameters.classes and not hyperparameters.classes[0].endswith("ForCausalLM"):
        read = f"{hyperparameters.source} names the class {hyperparameters.classes[0][:60]}"
        raise ConfigError(read, "a class that ends in ForCausalLM", "weigh the weight files themselves")


FAMILY = Family(
    name="phi",
    title="Phi-1, Phi-1.5, Phi-2, in their first spellings too",
    model_types=("phi", "phi-msft", "mixformer-sequential"),
    gguf={"phi2": GgufMeaning("phi", "PhiForCausalLM")},
    source="transformers models/phi; modeling_mixformer_sequential.py and modeling_phi.py of the first releases",
    build=build,
)
