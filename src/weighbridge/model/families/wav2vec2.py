"""wav2vec 2.0 and its relatives: convolutions over the waveform, a convolution for positions, an encoder, a head.

Source: transformers `models/{wav2vec2,hubert,wavlm,unispeech,unispeech_sat,sew}` and `models/data2vec/*_audio.py`. The
convolution for positions is stored as a direction and a length (weight normalisation, Salimans and Kingma 2016): one
length for each place of the kernel. WavLM gates relative positions in every layer, from a table in the first. SEW
squeezes the sequence before the encoder. data2vec has several plain convolutions for positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.normalised_convolution import NormalisedConvolution
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ONCE
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": (),
    "ForCTC": ("letters",),
    "ForSequenceClassification": ("sum", "projector"),
    "ForAudioFrameClassification": ("sum", "classifier"),
    "ForXVector": ("sum", "speaker"),
    "ForPreTraining": ("quantizer",),
}
_SPOKEN = ("Model", "ForCTC", "ForSequenceClassification")
_HEARD = (*_SPOKEN, "ForAudioFrameClassification", "ForXVector")

# For each model type the name of its class, the prefix of its body, and the classes that are described.
_KINDS = {
    "wav2vec2": ("Wav2Vec2", "wav2vec2.", (*_HEARD, "ForPreTraining")),
    "hubert": ("Hubert", "hubert.", _SPOKEN),
    "wavlm": ("WavLM", "wavlm.", _HEARD),
    "unispeech": ("UniSpeech", "unispeech.", (*_SPOKEN, "ForPreTraining")),
    "unispeech-sat": ("UniSpeechSat", "unispeech_sat.", (*_HEARD, "ForPreTraining")),
    "sew": ("SEW", "sew.", _SPOKEN),
    "data2vec-audio": ("Data2VecAudio", "data2vec_audio.", _HEARD),
}
_ADAPTED = ("wav2vec2", "hubert", "unispeech", "unispeech-sat")
"""Those whose layers have adapters where the setting asks for them."""
_UNNAMED = "no class is named; taken as a speech recogniser (ForCTC)"

_CHANNELS, _KERNELS = (512,) * 7, (10, 3, 3, 3, 3, 2, 2)  # defaults of the configuration classes, but SEW's
_SQUEEZED = (64, *(128,) * 4, *(256,) * 4, *(512,) * 4), (10, *(3, 1) * 4, 2, 1, 2, 1)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    kind = hyperparameters.model_type
    name, body, known = _KINDS[kind]
    suffix = bert.known_class(hyperparameters, (name,), dict.fromkeys(known), "ForCTC")
    for key in ("add_adapter", "conv_pos_batch_norm"):
        hyperparameters.refuse(key, "which adds weights that are not described")
    base, hidden = "" if suffix == "Model" else body, hyperparameters.count("hidden_size", 768)
    num_heads = hyperparameters.count("num_heads", 12)
    num_layers = hyperparameters.count("num_layers", 12, most=MOST_LAYERS)
    layers, layer = range(num_layers), base + "encoder.layers.{layer}."
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                          head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
                          names=("q_proj", "k_proj", "v_proj", "out_proj"), qkv_bias=True, output_bias=True,
                          causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 3072),
                               gate=None, up="intermediate_dense", down="output_dense", bias=True)  # fmt: skip
    return Architecture(
        family="wav2vec2",
        model_type=kind,
        placements=(
            *stem(hyperparameters, base, hidden),
            Placement(base + "encoder.layer_norm", Norm(width=hidden, role="encoder_norm")),
            Placement(layer + "attention", attention, layers),
            *(_gated_positions(hyperparameters, layer + "attention", attention, layers) if kind == "wavlm" else ()),
            Placement(layer + "layer_norm", Norm(width=hidden, role="attention_norm"), layers),
            Placement(layer + "feed_forward", feed_forward, layers),
            Placement(layer + "final_layer_norm", Norm(width=hidden, role="mlp_norm"), layers),
            *_adapters(hyperparameters, layer + "adapter_layer", hidden, layers),
            *heads(hyperparameters, suffix, hidden, num_layers),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix=body,
        notes=(ONCE,)
        if hyperparameters.classes
        else ("no class is named; taken as a speech recogniser (ForCTC)", ONCE),
    )


def _gated_positions(
    hyperparameters: Hyperparameters, path: str, attention: Attention, layers: range
) -> list[Placement]:
    """A gate for each head of every layer, and one table of distances, which the first layer holds."""
    heads = attention.num_heads
    gate = Linear(in_features=attention.head_dim, out_features=8, component=Component.ATTENTION)
    table = Array(name="rel_attn_embed.weight", shape=(hyperparameters.count("num_buckets", 320), heads),
                  role="relative_position", component=Component.ATTENTION)  # fmt: skip
    return [
        Placement(path, Array(name="gru_rel_pos_const", shape=(1, heads, 1, 1), component=Component.ATTENTION), layers),
        Placement(path + ".gru_rel_pos_linear", gate, layers),
        Placement(path, table, range(1)),
    ]


def _adapters(hyperparameters: Hyperparameters, path: str, hidden: int, layers: range) -> list[Placement]:
    """MMS: two small maps at the end of every layer, one set of them for each language."""
    width = hyperparameters.optional_count("adapter_attn_dim")
    adapted = hyperparameters.model_type in _ADAPTED and hyperparameters.flag("do_stable_layer_norm", False)
    if width is None or not adapted:
        return []
    return [
        Placement(path + ".norm", Norm(width=hidden), layers),
        Placement(path + ".linear_1", Linear(in_features=hidden, out_features=width), layers),
        Placement(path + ".linear_2", Linear(in_features=width, out_features=hidden), layers),
    ]


def heads(hyperparameters: Hyperparameters, suffix: str, hidden: int, num_layers: int) -> list[Placement]:
    """What a class of this name puts on the encoder."""
    labels = hyperparameters.count("num_labels", 2)

    def letters() -> list[Placement]:
        return [bert.output("lm_head", hidden, hyperparameters.count("vocab_size", 32), "head")]

    def weighted() -> list[Placement]:
        if not hyperparameters.flag("use_weighted_layer_sum", False):
            return []
        return [Placement("", Vector(name="layer_weights", width=num_layers + 1, component=Component.HEAD))]

    def projector() -> list[Placement]:
        width = hyperparameters.count("classifier_proj_size", 256)
        return [bert.output("projector", hidden, width, "head_transform"), bert.output("classifier", width, labels)]

    parts: dict[str, Callable[[], list[Placement]]] = {
        "letters": letters, "sum": weighted, "projector": projector,
        "classifier": lambda: [bert.output("classifier", hidden, labels)],
        "speaker": lambda: _speaker(hyperparameters, hidden, labels),
        "quantizer": lambda: _quantizer(hyperparameters, hidden),
    }  # fmt: skip
    return [placement for name in _CLASSES[suffix] for placement in parts[name]()]


def _speaker(hyperparameters: Hyperparameters, hidden: int, labels: int) -> list[Placement]:
    """X-vectors: maps over neighbouring frames, then over the mean and deviation of all (Snyder et al. 2018)."""
    widths = _sizes(hyperparameters, "tdnn_dim", (512, 512, 512, 512, 1500))
    kernels = _sizes(hyperparameters, "tdnn_kernel", (5, 3, 3, 1, 1))
    vector = hyperparameters.count("xvector_output_dim", 512)
    if len(widths) > len(kernels):
        read = f"{hyperparameters.source} has {len(widths)} tdnn_dim and {len(kernels)} tdnn_kernel"
        raise ConfigError(read, "one of each", "correct the lists")
    return [
        bert.output("projector", hidden, widths[0], "head_transform"),
        *(bert.output(f"tdnn.{place}.kernel", inputs * kernel, outputs, "head_transform")
          for place, (inputs, outputs, kernel) in enumerate(zip((widths[0], *widths), widths, kernels, strict=False))),
        bert.output("feature_extractor", 2 * widths[-1], vector, "head_transform"),
        bert.output("classifier", vector, vector),
        Placement("objective", Array(name="weight", shape=(vector, labels), component=Component.HEAD)),
    ]  # fmt: skip


def _quantizer(hyperparameters: Hyperparameters, hidden: int) -> list[Placement]:
    """The codes that the masked frames are told apart by (Baevski et al. 2020), and what UniSpeech adds."""
    kind, groups = hyperparameters.model_type, hyperparameters.count("num_codevector_groups", 2)
    codes = groups * hyperparameters.count("num_codevectors_per_group", 320)
    width, projected = hyperparameters.count("codevector_dim", 256), hyperparameters.count("proj_codevector_dim", 256)
    heard = hidden if kind == "unispeech-sat" else _sizes(hyperparameters, "conv_dim", _CHANNELS)[-1]
    table = Array(name="codevectors", shape=(1, codes, hyperparameters.divided("codes by groups", width, groups)),
                  role="codes", component=Component.HEAD)  # fmt: skip
    back = (projected, hidden) if kind == "unispeech" else (hidden, projected)
    head = [
        Placement("quantizer", table),
        bert.output("quantizer.weight_proj", heard, codes),
        bert.output("project_q", width, projected),
        bert.output("project_hid", *back),
    ]
    if kind == "unispeech":
        head.append(bert.output("ctc_proj", hidden, hyperparameters.count("num_ctc_classes", 80)))
    if kind == "unispeech-sat":
        clusters = hyperparameters.count("num_clusters", 504)
        head += [
            Placement("", Array(name="label_embeddings_concat", shape=(clusters, width), component=Component.HEAD)),
            bert.output("speaker_proj", hidden, width),
            Placement("layer_norm_for_extract", Norm(width=hidden)),
        ]
    return head


def stem(hyperparameters: Hyperparameters, base: str, hidden: int) -> list[Placement]:
    """The convolutions over the waveform, the projection of their output, and the positions."""
    kind = hyperparameters.model_type
    default = _SQUEEZED if kind == "sew" else (_CHANNELS, _KERNELS)
    channels = _sizes(hyperparameters, "conv_dim", default[0])
    kernels = _sizes(hyperparameters, "conv_kernel", default[1])
    if len(channels) != len(kernels):
        read = f"{hyperparameters.source} has {len(channels)} conv_dim and {len(kernels)} conv_kernel"
        raise ConfigError(read, "one of each for every convolution", "correct the lists")
    bias = hyperparameters.flag("conv_bias", False)
    normed = len(channels) if kind == "data2vec-audio" else _normed(hyperparameters, len(channels))
    placements = mask(hyperparameters, base, hidden)
    for place, (inputs, outputs, kernel) in enumerate(zip((1, *channels), channels, kernels, strict=False)):
        path = f"{base}feature_extractor.conv_layers.{place}"
        block = Convolution(kernel=(kernel,), in_channels=inputs, out_channels=outputs, bias=bias)
        placements.append(Placement(f"{path}.conv", block))
        if place < normed:
            placements.append(Placement(f"{path}.layer_norm", Norm(width=outputs)))
    path = f"{base}feature_projection"
    norm = Placement(base + "layer_norm" if kind == "sew" else path + ".layer_norm", Norm(width=channels[-1]))
    project = Linear(in_features=channels[-1], out_features=hidden, role="embedding_projection")
    groups = hyperparameters.count("num_conv_pos_embedding_groups", 16)
    hyperparameters.divided("channels by groups", hidden, groups)
    if kind != "hubert" or hyperparameters.flag("feat_proj_layer_norm", True):
        placements.append(norm)
    if kind == "sew":
        wide = hidden * hyperparameters.count("squeeze_factor", 2)
        placements += [Placement(path, project)] if channels[-1] != hidden else []
        placements.append(
            Placement(base + "encoder.upsample.projection", Linear(in_features=hidden, out_features=wide))
        )
    else:
        placements.append(Placement(path + ".projection", project))
    return [*placements, *_positions(hyperparameters, base + "encoder.pos_conv_embed", hidden, groups)]


def mask(hyperparameters: Hyperparameters, base: str, hidden: int) -> list[Placement]:
    """The vector that stands for masked frames, where training masks any; UniSpeech-SAT has it always."""
    if hyperparameters.model_type == "unispeech-sat" or any(
        _probability(hyperparameters, name, default) for name, default in _MASKS
    ):
        return [Placement(base.rstrip("."), Vector(name="masked_spec_embed", width=hidden))]
    return []


def _normed(hyperparameters: Hyperparameters, convolutions: int) -> int:
    """How many of the convolutions have a norm."""
    norms = {None: 1, "group": 1, "layer": convolutions}
    spelled = hyperparameters.settings.get("feat_extract_norm")
    if not isinstance(spelled, str | None) or spelled not in norms:
        raise ConfigError(f"{hyperparameters.source} has feat_extract_norm = {repr(spelled)[:60]}", "group or layer",
                          "correct the key")  # fmt: skip
    return norms[spelled]


def _positions(hyperparameters: Hyperparameters, path: str, hidden: int, groups: int) -> list[Placement]:
    if hyperparameters.model_type != "data2vec-audio":
        kernel = hyperparameters.count("num_conv_pos_embeddings", 128)
        block = NormalisedConvolution(kernel=kernel, channels=hidden, groups=groups)
        return [Placement(path + ".conv", block)]
    plain = Convolution(kernel=(hyperparameters.count("conv_pos_kernel_size", 19),), in_channels=hidden,
                        out_channels=hidden, groups=groups, bias=True)  # fmt: skip
    return [Placement(f"{path}.layers.{place}.conv", plain)
            for place in range(hyperparameters.count("num_conv_pos_embeddings", 5, most=MOST_LAYERS))]  # fmt: skip


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
    title="wav2vec 2.0, XLS-R, MMS, HuBERT, WavLM, UniSpeech, SEW, data2vec for speech",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/wav2vec2, hubert, wavlm, unispeech, unispeech_sat, sew, data2vec",
    build=build,
)
