"""wav2vec 2.0 and HuBERT: convolutions over the waveform, a convolution for positions, an encoder, a head for text.

Source: transformers `models/{wav2vec2,hubert}/{configuration,modeling}_*.py`. The convolution for positions is stored
as a direction and a length (weight normalisation, Salimans and Kingma 2016): one length for each place of the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.normalised_convolution import NormalisedConvolution
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

_CLASSES = {
    "Model": (),
    "ForCTC": ("letters",),
    "ForSequenceClassification": ("projector",),
    "ForAudioFrameClassification": ("classifier",),
}
_CHANNELS, _KERNELS = (512,) * 7, (10, 3, 3, 3, 3, 2, 2)  # defaults of both configuration classes


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    first = hyperparameters.model_type == "wav2vec2"
    classes = {name: parts for name, parts in _CLASSES.items() if first or name != "ForAudioFrameClassification"}
    suffix = bert.known_class(hyperparameters, ("Wav2Vec2",) if first else ("Hubert",), classes, "ForCTC")
    for name in ("add_adapter", "adapter_attn_dim", "conv_pos_batch_norm", "use_weighted_layer_sum"):
        hyperparameters.refuse(name, "which adds weights that are not described")
    body = f"{hyperparameters.model_type}."
    base, hidden = "" if suffix == "Model" else body, hyperparameters.count("hidden_size")
    num_heads, num_layers = hyperparameters.count("num_heads"), hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers, layer = range(num_layers), base + "encoder.layers.{layer}."
    width, labels = hyperparameters.count("classifier_proj_size", 256), hyperparameters.count("num_labels", 2)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                          head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
                          names=("q_proj", "k_proj", "v_proj", "out_proj"), qkv_bias=True, output_bias=True,
                          causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="intermediate_dense", down="output_dense", bias=True)  # fmt: skip
    parts: dict[str, Callable[[], list[Placement]]] = {
        "letters": lambda: [bert.output("lm_head", hidden, hyperparameters.count("vocab_size", 32), "head")],
        "projector": lambda: [bert.output("projector", hidden, width, "head_transform"),
                              bert.output("classifier", width, labels)],
        "classifier": lambda: [bert.output("classifier", hidden, labels)],
    }  # fmt: skip
    return Architecture(
        family="wav2vec2",
        model_type=hyperparameters.model_type,
        placements=(
            *_stem(hyperparameters, base, hidden),
            Placement(base + "encoder.layer_norm", Norm(width=hidden, role="encoder_norm")),
            Placement(layer + "attention", attention, layers),
            Placement(layer + "layer_norm", Norm(width=hidden, role="attention_norm"), layers),
            Placement(layer + "feed_forward", feed_forward, layers),
            Placement(layer + "final_layer_norm", Norm(width=hidden, role="mlp_norm"), layers),
            *(placement for name in classes[suffix] for placement in parts[name]()),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix=body,
        notes=() if hyperparameters.classes else ("no class is named; taken as a speech recogniser (ForCTC)",),
    )


def _stem(hyperparameters: Hyperparameters, base: str, hidden: int) -> list[Placement]:
    """The convolutions over the waveform, the projection of their output, and the positions."""
    channels = _sizes(hyperparameters, "conv_dim", _CHANNELS)
    kernels = _sizes(hyperparameters, "conv_kernel", _KERNELS)
    if len(channels) != len(kernels):
        read = f"{hyperparameters.source} has {len(channels)} conv_dim and {len(kernels)} conv_kernel"
        raise ConfigError(read, "one of each for every convolution", "correct the lists")
    bias = hyperparameters.flag("conv_bias", False)
    norms = {None: 1, "group": 1, "layer": len(channels)}
    spelled = hyperparameters.settings.get("feat_extract_norm")
    if not isinstance(spelled, str | None) or spelled not in norms:
        raise ConfigError(f"{hyperparameters.source} has feat_extract_norm = {repr(spelled)[:60]}", "group or layer",
                          "correct the key")  # fmt: skip
    normed = norms[spelled]
    placements = []
    if any(_probability(hyperparameters, name, default) for name, default in _MASKS):
        placements.append(Placement(base.rstrip("."), Vector(name="masked_spec_embed", width=hidden)))
    for place, (inputs, outputs, kernel) in enumerate(zip((1, *channels), channels, kernels, strict=False)):
        path = f"{base}feature_extractor.conv_layers.{place}"
        block = Convolution(kernel=(kernel,), in_channels=inputs, out_channels=outputs, bias=bias)
        placements.append(Placement(f"{path}.conv", block))
        if place < normed:
            placements.append(Placement(f"{path}.layer_norm", Norm(width=outputs)))
    path = f"{base}feature_projection."
    if hyperparameters.flag("feat_proj_layer_norm", True):
        placements.append(Placement(path + "layer_norm", Norm(width=channels[-1])))
    project = Linear(in_features=channels[-1], out_features=hidden, role="embedding_projection")
    groups = hyperparameters.count("num_conv_pos_embedding_groups", 16)
    hyperparameters.divided("channels by groups", hidden, groups)
    positions = NormalisedConvolution(kernel=hyperparameters.count("num_conv_pos_embeddings", 128), channels=hidden,
                                      groups=groups)  # fmt: skip
    return [
        *placements,
        Placement(path + "projection", project),
        Placement(base + "encoder.pos_conv_embed.conv", positions),
    ]


_MASKS = (("mask_time_prob", 0.05), ("mask_feature_prob", 0.0))  # the vector for masks exists when either is above 0


def _probability(hyperparameters: Hyperparameters, name: str, default: float) -> bool:
    value = hyperparameters.settings.get(name, default)
    return isinstance(value, int | float) and value > 0


def _sizes(hyperparameters: Hyperparameters, name: str, default: Sequence[int]) -> Sequence[int]:
    """A list of sizes of the convolutions, at most a thousand.

    Raises:
        ConfigError: when the key holds anything else.
    """
    value = hyperparameters.settings.get(name)
    if value is None:
        return default
    good = isinstance(value, list | tuple) and 0 < len(value) <= 1000
    if not good or not all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**40 for n in value):
        raise ConfigError(f"{hyperparameters.source} has {name} = {repr(value)[:60]}", "a list of whole numbers",
                          "correct the key")  # fmt: skip
    return list(value)


FAMILY = Family(
    name="wav2vec2",
    title="wav2vec 2.0, XLS-R, HuBERT",
    model_types=("wav2vec2", "hubert"),
    gguf={},
    source="transformers models/wav2vec2, models/hubert",
    build=build,
)
