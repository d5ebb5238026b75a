"""Step-3.5-Flash and Step-3.7-Flash: gated attention with more heads in windowed layers, experts, and in 3.7 a tower.

Source: transformers `models/step3p7/{configuration,modeling}_step3p7.py`, whose text model is that of 3.5; tensor names
are those of the published checkpoints (`conversion_mapping.py`). Lists by layer go on over the next-token-prediction
layers, which are dense and have heads of their own; vLLM loads them (`step3p5_mtp.py`). The bias that balances the
router is a buffer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import composite, mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, FeedForward, Linear, Norm, Use
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component, Kind


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder alone, or behind the tower and the projector."""
    if hyperparameters.model_type == "step3p5":
        return _text(hyperparameters)
    composite.check_class(hyperparameters, "Step3p7")
    part = hyperparameters.part("text_config")
    tied = hyperparameters.settings.get("tie_embeddings")
    if tied is None or tied != part.flag("tie_embeddings", tied):
        raise ConfigError(f"{hyperparameters.source} does not say once whether the head is tied",
                          "tie_word_embeddings, the same in every part", "correct the keys")  # fmt: skip
    text = _text(replace(part, classes=(), settings={**part.settings, "tie_embeddings": tied}))
    vision = hyperparameters.part("vision_config")
    tower = composite.tower(_tower(vision, part.count("hidden_size"), hyperparameters.flag("projector_bias", False)))
    return composite.joined(hyperparameters, "step3p7", text, tower)


def _text(hyperparameters: Hyperparameters) -> Architecture:
    bias, mlp_bias = hyperparameters.flag("attention_bias", False), hyperparameters.flag("mlp_bias", False)
    if not hyperparameters.flag("use_head_wise_attn_gate", True):
        raise ConfigError(f"{hyperparameters.source} has use_head_wise_attn_gate = false", "a gate for each head",
                          "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip
    kv_heads = hyperparameters.count("num_attention_groups", hyperparameters.count("num_kv_heads", 8))
    settings = {**hyperparameters.settings, "num_kv_heads": kv_heads}
    attention = mixture.attention(replace(hyperparameters, settings=settings), head_dim=128, qkv_bias=bias,
                                  output_bias=bias)  # fmt: skip
    hidden, num_layers = attention.hidden_size, hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts = hyperparameters.count("moe_num_experts", hyperparameters.count("n_routed_experts", 288, MOST_EXPERTS),
                                        most=MOST_EXPERTS)  # fmt: skip
    active = hyperparameters.count("moe_top_k", hyperparameters.count("experts_per_token", 8))
    hyperparameters.check_experts(num_experts, active)
    experts = StackedExperts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("moe_intermediate_size", 1280),
        num_experts=num_experts, experts_per_token=active,
        names=("gate_proj.weight", "up_proj.weight", "down_proj.weight"),
    )  # fmt: skip
    router = Linear(in_features=hidden, out_features=num_experts, bias=False, role="router", component=Component.ROUTER)
    balance = Array(name="router_bias", shape=(num_experts,), role="router_correction", component=Component.ROUTER,
                    kind=Kind.BUFFER)  # fmt: skip
    width = hyperparameters.count("share_expert_dims", hyperparameters.count("share_expert_dim", 1280))
    inner = hyperparameters.count("intermediate_size", 11264)
    dense, sparse = _dense_and_sparse(hyperparameters, num_layers)
    dense_block = FeedForward(hidden_size=hidden, intermediate_size=inner, bias=mlp_bias)

    def attending(heads: int, window: int | None, layers: Sequence[int]) -> list[Placement]:
        gate = Linear(in_features=hidden, out_features=heads, bias=False, role="attention_gate",
                      component=Component.ATTENTION)  # fmt: skip
        block = replace(attention, num_heads=heads, window=window)
        return [Placement(LAYER + "self_attn", block, layers), Placement(LAYER + "self_attn.g_proj", gate, layers)]

    kinds, extra = _attention_layers(hyperparameters, kv_heads, num_layers)
    body = [placement for (heads, window), layers in mixture.grouped(kinds)
            for placement in attending(heads, window, layers)]  # fmt: skip
    if len(set(extra)) == 1:
        predicting = [*attending(*extra[0], ()), Placement(LAYER + "mlp", dense_block),
                      *mixture.head_norms(attention.head_dim, attention.head_dim, ())]  # fmt: skip
        body += mixture.next_token_layers(hyperparameters, predicting, repeats_tables=False,
                                          norm_path="transformer.shared_head.norm",
                                          head_path="transformer.shared_head.output")  # fmt: skip
    body += [
        *mixture.head_norms(attention.head_dim, attention.head_dim, range(num_layers)),
        Placement(LAYER + "mlp", dense_block, dense),
        Placement(LAYER + "moe.gate", router, sparse),
        Placement(LAYER + "moe", balance, sparse),
        Placement(LAYER + "moe", experts, sparse),
        Placement(LAYER + "share_expert", mixture.shared_experts(hidden, width, mlp_bias), sparse),
    ]
    return mixture.decoder(hyperparameters, "step3p7", ("Step3p5",), body, attention=attention, num_experts=num_experts)


def _cut(hyperparameters: Hyperparameters, name: str, num_layers: int) -> Hyperparameters:
    """A list by layer without the entries of the next-token-prediction layers."""
    extra = mixture.natural(hyperparameters, "num_nextn_predict_layers")
    value = hyperparameters.settings.get(name)
    if not extra or not isinstance(value, list) or len(value) != num_layers + extra:
        return hyperparameters
    return replace(hyperparameters, settings={**hyperparameters.settings, name: value[:num_layers]})


def _attention_layers(
    hyperparameters: Hyperparameters, kv_heads: int, num_layers: int
) -> tuple[list[tuple[int, int | None]], list[tuple[int, int | None]]]:
    """Query heads and window of each layer, and of the next-token-prediction layers that the list goes on over."""
    heads = near = hyperparameters.count("num_heads", 64)
    other = hyperparameters.settings.get("attention_other_setting")
    if hyperparameters.settings.get("num_sliding_attention_heads") is not None:
        near = hyperparameters.count("num_sliding_attention_heads")
    elif isinstance(other, dict):
        near = replace(hyperparameters, settings=other).count("num_attention_heads", heads)
    if isinstance(other, dict) and (
        other.get("num_attention_groups", kv_heads) != kv_heads
        or other.get("head_dim") not in (None, hyperparameters.count("head_dim", 128))
    ):
        raise ConfigError(f"{hyperparameters.source} has an attention_other_setting with other key-value heads",
                          "those of the other layers", "ask for support of this variant")  # fmt: skip
    for number in (heads, near):
        hyperparameters.divided("query heads by key-value heads", number, kv_heads)
    known = ("full_attention", "sliding_attention")
    cut = _cut(hyperparameters, "layer_types", num_layers)
    kinds = mixture.named_layers(cut, "layer_types", num_layers, known) or ["full_attention"] * num_layers
    if cut is not hyperparameters:
        total = num_layers + mixture.natural(hyperparameters, "num_nextn_predict_layers")
        kinds = mixture.named_layers(hyperparameters, "layer_types", total, known) or kinds
    window = hyperparameters.optional_count("sliding_window")
    found = [(near, window) if kind == "sliding_attention" else (heads, None) for kind in kinds]
    return found[:num_layers], found[num_layers:]


def _dense_and_sparse(hyperparameters: Hyperparameters, num_layers: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    listed = hyperparameters.settings.get("moe_layers_enum")
    cut = _cut(hyperparameters, "mlp_layer_types", num_layers)
    if listed is None or hyperparameters.settings.get("mlp_layer_types") is not None:
        return mixture.dense_and_sparse(cut, num_layers, 3)
    if isinstance(listed, str) and all(part.strip().isdecimal() for part in listed.split(",") if part.strip()):
        listed = [int(part) for part in listed.split(",") if part.strip()]
    routed = mixture.whole_numbers(replace(hyperparameters, settings={"moe_layers_enum": listed}), "moe_layers_enum")
    chosen = set(routed or ())
    return (tuple(layer for layer in range(num_layers) if layer not in chosen),
            tuple(layer for layer in range(num_layers) if layer in chosen))  # fmt: skip


def _tower(vision: Hyperparameters, text_hidden: int, bias: bool) -> list[Placement]:
    hidden = vision.count("width", vision.count("hidden_size", 1536))
    heads = vision.count("heads", vision.count("num_heads", 16))
    layers = range(vision.count("layers", vision.count("num_layers", 47, MOST_LAYERS), most=MOST_LAYERS))
    ratio = vision.settings.get("mlp_ratio", 8960 / 1536)
    if not isinstance(ratio, int | float) or isinstance(ratio, bool) or not 0 < ratio < 1000:
        raise ConfigError(f"{vision.source} has mlp_ratio = {repr(ratio)[:60]}", "a positive number", "correct the key")
    patch = vision.count("patch_size", 14)
    positions = (vision.count("image_size", 728) // patch) ** 2
    vision.divided("head_dim", hidden, heads)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=int(hidden * ratio), gate=None, up="c_fc",
                               down="c_proj", bias=True)  # fmt: skip
    norm, layer = Norm(width=hidden), "vision_model.transformer.resblocks.{layer}."
    parts: list[tuple[str, Block, Sequence[int] | None]] = [
        ("vision_model.conv1",
         Convolution(kernel=(patch, patch), in_channels=vision.count("num_channels", 3), out_channels=hidden), None),
        ("vision_model",
         Array(name="positional_embedding", shape=(positions, hidden), role="position_embedding"), None),
        ("vision_model.ln_pre", norm, None),
        (layer + "attn", Array(name="in_proj_weight", shape=(3 * hidden, hidden), use=Use.MATMUL), layers),
        (layer + "attn", Array(name="in_proj_bias", shape=(3 * hidden,)), layers),
        (layer + "attn.out_proj", Linear(in_features=hidden, out_features=hidden), layers),
        (layer + "mlp", feed_forward, layers),
        (layer + "ln_1", norm, layers), (layer + "ln_2", norm, layers),
        (layer + "ls_1", Array(name="gamma", shape=(hidden,)), layers),
        (layer + "ls_2", Array(name="gamma", shape=(hidden,)), layers),
        ("vision_model.vit_downsampler1",
         Convolution(kernel=(3, 3), in_channels=hidden, out_channels=2 * hidden, bias=True), None),
        ("vision_model.vit_downsampler2",
         Convolution(kernel=(3, 3), in_channels=2 * hidden, out_channels=4 * hidden, bias=True), None),
        ("vit_large_projector", Linear(in_features=4 * hidden, out_features=text_hidden, bias=bias, role="projector"),
         None),
    ]  # fmt: skip
    return [Placement(path, block, where) for path, block, where in parts]


FAMILY = Family(
    name="step3p7",
    title="Step-3.5-Flash and Step-3.7-Flash",
    model_types=("step3p5", "step3p7"),
    gguf={},
    source="transformers models/step3p7; vLLM step3p5_mtp.py",
    build=build,
)
