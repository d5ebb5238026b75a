"""Do the descriptions of the families agree with transformers: name by name, shape by shape, FLOP by FLOP?

The reference is transformers' own module of the class that a configuration names, built on the `meta` device, where
its weights have shapes and no data. The input of Weighbridge is that configuration's `to_dict()`, and in
`TestSaved` the files that `save_pretrained` writes.

Conventions that are allowed, each in one place here:

- A bare body (`LlamaModel`, `GPT2Model`, `BertModel`) leaves the base prefix out of its names.
- transformers 5 keeps the experts of Mixtral merged (`mlp.experts.gate_up_proj`); files have the published names, which
  the description gives. They are merged here in the same way before they are compared.
- Eager attention computes every score, those in the future too; the description counts the causal ones.
"""

from __future__ import annotations

import importlib
import inspect as python_inspect
import json
import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from weighbridge.errors import ConfigError
from weighbridge.formats import config as config_format
from weighbridge.formats.reconcile import Status
from weighbridge.formats.torch_module import read_module
from weighbridge.inspection import inspect
from weighbridge.model import encodings, families
from weighbridge.model.architecture import Architecture, Workload
from weighbridge.model.tensors import Kind
from weighbridge.predict.counts import count, count_state, forward_flops_per_token

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""The project's published configurations and shard maps, where they lie beside the checkout."""

PREFIXES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "mixtral": "Mixtral", "gpt2": "GPT2",
            "bert": "Bert"}  # fmt: skip
DECODERS = ("llama", "mistral", "qwen2", "mixtral", "gpt2")
CLASSES = {
    **dict.fromkeys(DECODERS, ("ForCausalLM", "Model", "ForSequenceClassification")),
    "gpt2": ("LMHeadModel", "Model", "ForSequenceClassification"),
    "bert": ("Model", "ForMaskedLM", "ForPreTraining", "ForNextSentencePrediction", "ForSequenceClassification",
             "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering", "LMHeadModel"),
}  # fmt: skip
"""Every class that the description of a model type supports."""

MASKED = ("ForMaskedLM", "ForPreTraining", "LMHeadModel")
"""BERT's classes with a language head."""

BASE: dict[str, dict[str, Any]] = {
    **{
        name: {"vocab_size": 70, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
               "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64,
               "bos_token_id": 1, "eos_token_id": 2}
        for name in ("llama", "mistral", "qwen2")
    },
    "mixtral": {"vocab_size": 70, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
                "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 64,
                "num_local_experts": 5, "num_experts_per_tok": 2, "bos_token_id": 1, "eos_token_id": 2},
    "gpt2": {"vocab_size": 70, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 48, "bos_token_id": 1,
             "eos_token_id": 2},
    "bert": {"vocab_size": 70, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2,
             "num_attention_heads": 4, "max_position_embeddings": 48},
}  # fmt: skip
"""A shrunken model of each type. Sizes are distinct where the reference allows it, so that a swap shows."""

_ROTARY: dict[str, dict[str, Any]] = {
    "base": {},
    "three_layers": {"num_hidden_layers": 3},
    "grouped": {"num_key_value_heads": 2},
    "multi_query": {"num_key_value_heads": 1},
    "wide_heads": {"head_dim": 14, "num_key_value_heads": 2},
    "narrow_heads": {"head_dim": 6, "num_key_value_heads": 2},
    "tied": {"tie_word_embeddings": True},
    "one_label": {"num_labels": 1},
    "five_labels": {"num_labels": 5},
    "named_labels": {"id2label": {0: "no", 1: "yes", 2: "perhaps"}},
}
VARIATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "llama": _ROTARY | {
        "attention_bias": {"attention_bias": True, "num_key_value_heads": 2},
        "mlp_bias": {"mlp_bias": True},
        "all_biases": {"attention_bias": True, "mlp_bias": True, "head_dim": 10, "tie_word_embeddings": True},
    },
    "mistral": _ROTARY | {"no_window": {"sliding_window": None}, "window": {"sliding_window": 8}},
    "qwen2": _ROTARY | {
        "window_off": {"use_sliding_window": False, "sliding_window": 8, "max_window_layers": 0},
        "window_everywhere": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0},
        "window_above": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1,
                         "num_hidden_layers": 3},
        "window_nowhere": {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 28},
    },
    "mixtral": _ROTARY | {
        "window": {"sliding_window": 8},
        "two_of_two": {"num_local_experts": 2},
        "one_of_eight": {"num_local_experts": 8, "num_experts_per_tok": 1},
    },
    "gpt2": {
        "base": {},
        "three_layers": {"n_layer": 3},
        "inner_null": {"n_inner": None},
        "inner_set": {"n_inner": 50},
        "untied": {"tie_word_embeddings": False},
        "one_head": {"n_head": 1},
        "one_label": {"num_labels": 1},
        "five_labels": {"num_labels": 5},
        "named_labels": {"id2label": {0: "no", 1: "yes", 2: "perhaps"}},
    },
    "bert": {
        "base": {},
        "three_layers": {"num_hidden_layers": 3},
        "one_type": {"type_vocab_size": 1},
        "many_types": {"type_vocab_size": 7, "max_position_embeddings": 130},
        "one_label": {"num_labels": 1},
        "five_labels": {"num_labels": 5},
        "named_labels": {"id2label": {0: "no", 1: "yes", 2: "perhaps"}},
        "untied": {"tie_word_embeddings": False},
    },
}  # fmt: skip


ALL_CLASSES = [(model_type, suffix) for model_type, suffixes in CLASSES.items() for suffix in suffixes]
"""Each supported class: model type and what follows the family's name."""


def variations() -> Iterator[Any]:
    """Each supported class with each variation of its configuration."""
    for model_type, suffix in ALL_CLASSES:
        for name, settings in VARIATIONS[model_type].items():
            yield pytest.param(model_type, suffix, settings, id=f"{PREFIXES[model_type]}{suffix}-{name}")


@dataclass(frozen=True, slots=True)
class Reference:
    """transformers' side of a comparison."""

    torch: ModuleType
    transformers: ModuleType

    def config(self, model_type: str, settings: Mapping[str, Any]) -> Any:
        """The configuration object of this type."""
        return getattr(self.transformers, f"{PREFIXES[model_type]}Config")(**settings)

    def model(self, config: Any, class_name: str, device: str = "meta") -> Any:
        """A model of this class, in which every part runs as plain matrix products."""
        config._attn_implementation = "eager"
        config._experts_implementation = "eager"
        config.architectures = [class_name]
        self.torch.manual_seed(0)
        with self.torch.device(device):
            return getattr(self.transformers, class_name)(config).eval()

    def shrunken(self, model_type: str, suffix: str, settings: Mapping[str, Any], device: str = "meta") -> Any:
        """The shrunken model of this type with some settings changed."""
        config = self.config(model_type, {**BASE[model_type], **settings})
        return self.model(config, PREFIXES[model_type] + suffix, device)

    def flops(self, model: Any, tokens: int, batch_size: int = 1, cached: int = 0) -> Counter[str]:
        """FLOPs of each module of one pass, its submodules left out; layers are added up as `{layer}`."""
        from torch.utils.flop_counter import FlopCounterMode

        ids = self.torch.arange(batch_size * (cached + tokens)).reshape(batch_size, -1) % model.config.vocab_size
        counter = FlopCounterMode(display=False)
        with self.torch.no_grad():
            past = model(input_ids=ids[:, :cached], use_cache=True).past_key_values if cached else None
            inputs = {"past_key_values": past} if cached else {}
            with counter:
                model(input_ids=ids[:, cached:], **inputs)
        root = type(model).__name__
        whole = {
            name.removeprefix(root).lstrip("."): sum(by_operator.values())
            for name, by_operator in counter.get_flop_counts().items()
            if name != "Global"
        }
        own: Counter[str] = Counter()
        for name, flops in whole.items():
            children = sum(f for other, f in whole.items() if other and _parent(other, whole) == name != other)
            own[re.sub(r"\.(layers|layer|h)\.\d+", r".\1.{layer}", name)] += flops - children
        return +own


def _parent(name: str, names: Mapping[str, int]) -> str:
    """The nearest module above that is counted too."""
    while name:
        name = name.rpartition(".")[0]
        if name in names:
            return name
    return name


@pytest.fixture(scope="module")
def reference() -> Reference:
    """torch and transformers, where they are installed."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return Reference(torch, transformers)


def described(config: Mapping[str, Any]) -> Architecture:
    """The description of the model that a `config.json` means."""
    return families.build(config_format.hyperparameters(config, "config.json"))


def shapes(architecture: Architecture, *, bare: bool = False) -> dict[str, tuple[int, ...]]:
    """Our names and shapes, by the names that the class itself uses."""
    tensors = list(architecture.tensors("huggingface"))
    names = [tensor.name.removeprefix(architecture.base_prefix) if bare else tensor.name for tensor in tensors]
    assert len(set(names)) == len(names)
    return {name: tensor.shape for name, tensor in zip(names, tensors, strict=True)}


def merged(ours: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The names of published Mixtral files, with experts merged as transformers 5 holds them.

    Source: transformers `conversion_mapping.py`, `mixtral`: w1 and w3 stacked over experts and joined, w2 stacked.
    """
    result: dict[str, tuple[int, ...]] = {}
    parts: dict[str, Counter[tuple[int, str, tuple[int, ...]]]] = {}
    for published, shape in ours.items():
        name = published.replace(".block_sparse_moe.", ".mlp.")
        expert = re.fullmatch(r"(.*\.experts)\.(\d+)\.(w[123])\.weight", name)
        if expert is None:
            result[name] = shape
        else:
            parts.setdefault(expert[1], Counter())[int(expert[2]), expert[3], shape] += 1
    for path, found in parts.items():
        numbers = {number for number, _, _ in found}
        kinds = {(kind, shape) for _, kind, shape in found}
        assert numbers == set(range(len(numbers))) and len(kinds) == 3 and len(found) == 3 * len(numbers)
        by_kind = dict(kinds)
        (gate, width), (up, _), (hidden, inner) = by_kind["w1"], by_kind["w3"], by_kind["w2"]
        assert by_kind["w3"] == (up, width) and (hidden, inner) == (width, gate)
        result[f"{path}.gate_up_proj"] = (len(numbers), gate + up, width)
        result[f"{path}.down_proj"] = (len(numbers), hidden, inner)
    return result


def compare(architecture: Architecture, model: Any, torch: Any) -> None:
    """Every exact statement of the description about stored parameters, held against the module."""
    class_name = type(model).__name__
    bare = class_name == PREFIXES[model.config.model_type] + "Model"
    parameters = dict(model.named_parameters(remove_duplicate=False))

    # Names and shapes, tied ones included; what a file would hold besides has to be nothing.
    ours = shapes(architecture, bare=bare)
    ours = merged(ours) if model.config.model_type == "mixtral" else ours
    assert ours == {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    assert set(model.state_dict()) <= set(ours)

    # Ties: the same object in the module.
    ties = {tensor.name: tensor.tied_to for tensor in architecture.tensors() if tensor.tied_to}
    for name, owner in ties.items():
        assert parameters[name] is parameters[owner]
    assert len({id(parameter) for parameter in parameters.values()}) == len(parameters) - len(ties)
    assert architecture.tie_embeddings == bool(ties)

    # Counts: distinct parameters, and the parts that a module's class or place tells.
    counts = count(architecture)
    assert counts.total == sum(parameter.numel() for parameter in model.parameters())
    kinds = {name: type(model.get_submodule(name.rpartition(".")[0])) for name in parameters}
    heads = ("lm_head.", "score.", "cls.", "classifier.", "qa_outputs.")
    expected: Counter[str] = Counter()
    for name, parameter in parameters.items():
        if name not in ties:
            expected[_component(name, kinds[name], heads, torch)] += parameter.numel()
    assert {part: elements for part, elements in counts.by_component.items() if elements} == dict(+expected)
    assert counts.biases == sum(p.numel() for n, p in parameters.items() if n.endswith("bias") and n not in ties)
    assert counts.buffers == 0
    assert counts.embedding == model.get_input_embeddings().weight.numel()
    assert counts.tied_per_use == sum(parameter.numel() for parameter in parameters.values())
    layers = [
        sum(p.numel() for name, p in parameters.items() if re.search(rf"(^|\.)(layers|layer|h)\.{i}\.", name))
        for i in range(model.config.num_hidden_layers)
    ]
    assert list(counts.by_layer) == layers
    experts = expected["experts"]
    used = experts * model.config.num_experts_per_tok // model.config.num_local_experts if experts else 0
    assert counts.active_per_token == counts.total - experts + used

    # The module as Weighbridge weighs it directly.
    checkpoint = read_module(model)
    weighed = (t.elements for t in checkpoint.tensors if t.tied_to is None and t.kind is Kind.PARAMETER)
    assert sum(weighed) == counts.total


def _component(name: str, kind: type, heads: tuple[str, ...], torch: Any) -> str:
    """The component that a parameter belongs to, by its place and by the class of its module."""
    if name.startswith(heads):
        return "head"
    if "pooler." in name:
        return "other"
    if issubclass(kind, torch.nn.Embedding):
        return "embedding"
    if "Norm" in kind.__name__:
        return "norm"
    if ".experts." in name:
        return "experts"
    if name.endswith(".mlp.gate.weight"):
        return "router"
    return "attention" if re.search(r"\.(self_attn|attn|attention)\.", name) else "mlp"


def windows(architecture: Architecture) -> list[int | None]:
    """The attention window of each layer, as described."""
    found = {
        layer: state.window
        for placement in architecture.placements
        for state in placement.block.states()
        for layer in placement.layers or ()
    }
    return [found[layer] for layer in range(architecture.num_layers)] if found else []


def reference_windows(model: Any) -> list[int | None]:
    """The attention window of each layer, as the module applies it."""
    config = model.config
    if config.model_type == "qwen2":
        return [layer.self_attn.sliding_window for layer in getattr(model, "model", model).layers]
    if config.model_type == "bert":
        return []
    window = config.sliding_window if config.model_type in ("mistral", "mixtral") else None
    return [window] * config.num_hidden_layers


@pytest.mark.torch
class TestParameters:
    """Names, shapes and counts of models without data."""

    @pytest.mark.parametrize(("model_type", "suffix", "settings"), list(variations()))
    def test_every_parameter_is_described(
        self, reference: Reference, model_type: str, suffix: str, settings: dict[str, Any]
    ) -> None:
        model = reference.shrunken(model_type, suffix, settings)
        architecture = described(model.config.to_dict())
        compare(architecture, model, reference.torch)
        assert windows(architecture) == reference_windows(model)

    @pytest.mark.parametrize("model_type", PREFIXES)
    def test_random_shapes_are_described(self, reference: Reference, model_type: str) -> None:
        dice = random.Random(f"weighbridge {model_type}")
        for _ in range(30):
            suffix = dice.choice(CLASSES[model_type])
            model = reference.shrunken(model_type, suffix, random_settings(model_type, suffix, dice))
            architecture = described(model.config.to_dict())
            compare(architecture, model, reference.torch)
            assert windows(architecture) == reference_windows(model)

    @pytest.mark.parametrize("model_type", PREFIXES)
    def test_the_number_of_labels_alone_is_read(self, reference: Reference, model_type: str) -> None:
        model = reference.shrunken(model_type, "ForSequenceClassification", {"num_labels": 7})
        config = {key: value for key, value in model.config.to_dict().items() if key not in ("id2label", "label2id")}
        compare(described(config | {"num_labels": 7}), model, reference.torch)

    @pytest.mark.parametrize("model_type", PREFIXES)
    def test_every_other_class_is_described_or_refused(self, reference: Reference, model_type: str) -> None:
        name = f"transformers.models.{model_type}.modeling_{model_type}"
        module = importlib.import_module(name)
        found = [
            class_name
            for class_name, value in vars(module).items()
            if python_inspect.isclass(value)
            and issubclass(value, reference.transformers.PreTrainedModel)
            and value.__module__ == name
            and not class_name.endswith("PreTrainedModel")
        ]
        supported = {PREFIXES[model_type] + suffix for suffix in CLASSES[model_type]}
        assert supported <= set(found)
        for class_name in found:
            model = reference.model(reference.config(model_type, BASE[model_type]), class_name)
            if class_name in supported:
                compare(described(model.config.to_dict()), model, reference.torch)
            else:
                with pytest.raises(ConfigError, match="a class whose wiring is described"):
                    described(model.config.to_dict())


def random_settings(model_type: str, suffix: str, dice: random.Random) -> dict[str, Any]:
    """A small configuration, drawn at random."""
    heads = dice.choice((1, 2, 3, 4, 6, 8))
    width = heads * dice.choice((2, 4, 6, 10))
    layers, vocab, labels = dice.randint(1, 3), dice.randint(10, 300), dice.randint(1, 9)
    settings: dict[str, Any] = {"vocab_size": vocab, "num_labels": labels, "tie_word_embeddings": dice.random() < 0.5}
    if model_type == "gpt2":
        return settings | {"n_embd": width, "n_head": heads, "n_layer": layers, "n_positions": dice.randint(1, 99),
                           "n_inner": dice.choice((None, dice.randint(1, 200)))}  # fmt: skip
    settings |= {"hidden_size": width, "num_attention_heads": heads, "num_hidden_layers": layers,
                 "intermediate_size": dice.randint(1, 200), "max_position_embeddings": dice.randint(1, 99)}  # fmt: skip
    if model_type == "bert":
        return settings | {"type_vocab_size": dice.randint(1, 5)}
    settings["num_key_value_heads"] = dice.choice([n for n in range(1, heads + 1) if heads % n == 0])
    if dice.random() < 0.5:
        settings["head_dim"] = 2 * dice.randint(1, 12)
    window = dice.choice((None, dice.randint(1, 40)))
    if model_type == "llama":
        settings |= {"attention_bias": dice.random() < 0.5, "mlp_bias": dice.random() < 0.5}
    elif model_type == "qwen2":
        settings |= {"use_sliding_window": dice.random() < 0.7, "sliding_window": window,
                     "max_window_layers": dice.randint(0, 4)}  # fmt: skip
    else:
        settings["sliding_window"] = window
    if model_type == "mixtral":
        settings["num_local_experts"] = dice.randint(1, 6)
        settings["num_experts_per_tok"] = dice.randint(1, settings["num_local_experts"])
    return settings


KEYS = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "mixtral"), (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "head_dim", "tie_word_embeddings", "max_position_embeddings", "attention_bias",
        "mlp_bias", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types", "num_local_experts",
        "num_experts_per_tok", "id2label")),
    "gpt2": ("vocab_size", "n_embd", "n_layer", "n_head", "n_inner", "n_positions", "tie_word_embeddings", "id2label"),
    "bert": ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "max_position_embeddings", "type_vocab_size", "tie_word_embeddings", "id2label"),
}  # fmt: skip
"""The keys that give shapes."""

NOTED_DEFAULTS = {("mistral", "sliding_window")}
"""A default that differs from the reference's on purpose, and says so in the notes."""


def missing_keys() -> Iterator[Any]:
    for model_type, keys in KEYS.items():
        for key in keys:
            yield pytest.param(model_type, key, id=f"{model_type}-{key}")


EXTRA_KEYS: list[tuple[str, dict[str, Any]]] = [
    ("qwen2", {"attention_bias": True}),
    ("qwen2", {"attention_bias": False}),
    ("llama", {"sliding_window": 8, "use_sliding_window": True}),
    ("gpt2", {"n_ctx": 16}),
    ("gpt2", {"head_dim": 16, "num_key_value_heads": 2}),
    ("bert", {"head_dim": 16, "num_key_value_heads": 2}),
    ("mistral", {"attention_bias": True}),
    ("mistral", {"mlp_bias": True}),
    ("qwen2", {"mlp_bias": True}),
    ("mixtral", {"attention_bias": True}),
    ("gpt2", {"intermediate_size": 50}),
    ("qwen2", {"layer_types": ["sliding_attention", "full_attention"], "max_window_layers": 2,
               "use_sliding_window": True, "sliding_window": 8}),
]  # fmt: skip


def extra_keys() -> Iterator[Any]:
    for model_type, settings in EXTRA_KEYS:
        yield pytest.param(model_type, settings, id=f"{model_type}-{'-'.join(settings)}")


@pytest.mark.torch
class TestUnusualConfigurations:
    """Trimmed and overfull files: the same count as the reference class, or a refusal."""

    @pytest.mark.parametrize(("model_type", "key"), list(missing_keys()))
    def test_a_missing_key_means_the_default_of_the_class(
        self, reference: Reference, model_type: str, key: str
    ) -> None:
        suffix = "ForSequenceClassification" if key == "id2label" else CLASSES[model_type][0]
        settings = {"num_attention_heads": 16} if model_type in ("mistral", "qwen2", "mixtral") else {}
        if model_type == "qwen2":
            settings |= {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}
        config = reference.shrunken(model_type, suffix, settings).config.to_dict()
        config.pop(key, None)
        if key != "layer_types":
            config.pop("layer_types", None)
        if key == "id2label":
            config.pop("label2id", None)
        try:
            architecture = described(config)
        except ConfigError as error:  # a key that shapes every model has no default worth guessing
            # ... and 32 key-value heads for 16 query heads are a model that cannot run.
            assert "config.json has no" in str(error) or "division without remainder" in str(error)
            return
        made = reference.config(model_type, {k: v for k, v in config.items() if k != "transformers_version"})
        model = reference.model(made, PREFIXES[model_type] + suffix)
        compare(architecture, model, reference.torch)
        if (model_type, key) in NOTED_DEFAULTS:
            assert any(key in note for note in architecture.notes)
        else:
            assert windows(architecture) == reference_windows(model)

    @pytest.mark.parametrize(("model_type", "settings"), list(extra_keys()))
    def test_a_key_that_the_class_does_not_read_changes_nothing(
        self, reference: Reference, model_type: str, settings: dict[str, Any]
    ) -> None:
        config = BASE[model_type] | settings
        model = reference.shrunken(model_type, CLASSES[model_type][0], settings)
        full = config | {"model_type": model_type, "architectures": [type(model).__name__]}
        architecture = described(full)
        compare(architecture, model, reference.torch)
        if model_type == "qwen2":
            assert windows(architecture) == reference_windows(model)


@pytest.mark.torch
class TestSaved:
    """What `save_pretrained` writes: the names of files, in which transformers 5 undoes its own renaming."""

    @pytest.mark.parametrize(("model_type", "suffix"), ALL_CLASSES)
    def test_files_hold_what_is_described(
        self, reference: Reference, model_type: str, suffix: str, tmp_path: Path
    ) -> None:
        safetensors = pytest.importorskip("safetensors")
        model = reference.shrunken(model_type, suffix, {}, "cpu")
        model.save_pretrained(tmp_path)
        with safetensors.safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        architecture = described(json.loads((tmp_path / "config.json").read_text()))
        tied = {tensor.name for tensor in architecture.tensors() if tensor.tied_to}
        ours = shapes(architecture, bare=suffix == "Model")
        assert {name: shape for name, shape in ours.items() if name not in tied} == stored

        inspection = inspect(tmp_path)
        assert inspection.reconciliation.status is Status.AGREES and not inspection.reconciliation.differences
        assert inspection.reconciliation.matched == len(stored)
        assert inspection.stored is not None
        assert inspection.stored.parameters == inspection.parameters.total == model.num_parameters()


def operations(architecture: Architecture, workload: Workload) -> Counter[str]:
    """Our FLOPs, by the module of the reference that spends them."""
    result: Counter[str] = Counter()
    for operation in architecture.operations(workload):
        path = operation.path.removesuffix(".weight")
        if architecture.family == "mixtral":
            path = path.replace(".block_sparse_moe.", ".mlp.")
            path = re.sub(r"\.experts\.\{expert\}\.w[123]$", ".experts", path)
        if architecture.family == "bert":
            path = path.replace(".attention.scores", ".attention.self.scores")
        result[path] += operation.flops
    return +result


def split_scores(flops: Counter[str], *, ours: bool) -> tuple[dict[str, int], int]:
    """FLOPs of weights by module, and those of attention scores and weighted sums."""
    attention = r"\.(self_attn|attn|attention\.self)" + (r"\.scores$" if ours else "$")
    scores = {path: n for path, n in flops.items() if re.search(attention, path)}
    return {path: n for path, n in flops.items() if path not in scores}, sum(scores.values())


ONCE_A_SEQUENCE = {"bert.pooler.dense", "cls.seq_relationship", "classifier"}
"""Modules that BERT applies to the first token alone (`classifier` only where it stands on the pooler)."""

HEADED = [(model_type, suffix) for model_type, suffix in ALL_CLASSES if suffix != "Model"]


def flops_settings() -> Iterator[Any]:
    for model_type in DECODERS:
        names = ("base", "grouped", "wide_heads", "all_biases", "window", "window_everywhere", "window_above",
                 "one_of_eight", "inner_set", "tied", "untied")  # fmt: skip
        for name in names:
            if name in VARIATIONS[model_type]:
                yield pytest.param(model_type, VARIATIONS[model_type][name], id=f"{model_type}-{name}")


@pytest.mark.torch
class TestOperations:
    """FLOPs that torch counts while a small model with weights runs.

    A multiplication of weights agrees module by module. Attention agrees exactly wherever no score lies in the future:
    for an encoder, and for a decoder's single new token at any context, windows included. For n new tokens after c in
    the cache, eager attention computes n*(c + n) scores a head, of which n*c + n*(n + 1)/2 are causal; a window w
    leaves at most w - 1 in the cache, and each token at most w causal scores, its own included.
    """

    @pytest.mark.parametrize(("model_type", "suffix"), HEADED)
    @pytest.mark.parametrize(("batch_size", "tokens"), [(1, 1), (1, 7), (3, 5)])
    def test_multiplications_of_weights_agree_by_module(
        self, reference: Reference, model_type: str, suffix: str, batch_size: int, tokens: int
    ) -> None:
        settings = {"pad_token_id": 69}  # classifiers look for padding; the token 69 does not occur
        model = reference.shrunken(model_type, suffix, settings, "cpu")
        if suffix == "ForMultipleChoice":  # which takes the choices of a question as a third axis
            model = _flat_choices(model)
        theirs, their_scores = split_scores(reference.flops(model, tokens, batch_size), ours=False)
        workload = Workload(batch_size=batch_size, new_tokens=tokens)
        ours, our_scores = split_scores(operations(described(model.config.to_dict()), workload), ours=True)
        once = set() if suffix == "ForTokenClassification" else ONCE_A_SEQUENCE
        assert {path: n for path, n in ours.items() if path not in once} == {
            path: n for path, n in theirs.items() if path not in once
        }
        if model_type == "bert":
            assert our_scores == their_scores
        else:
            assert our_scores * 2 * tokens == their_scores * (tokens + 1)

    @pytest.mark.parametrize(
        ("suffix", "tokens"),
        [
            (suffix, tokens)
            for suffix in ("Model", "ForPreTraining", "ForNextSentencePrediction", "ForSequenceClassification",
                           "ForMultipleChoice")
            for tokens in (1, 7)
        ],
    )  # fmt: skip
    def test_the_pooler_runs_once_a_sequence(self, reference: Reference, suffix: str, tokens: int) -> None:
        model = reference.shrunken("bert", suffix, {}, "cpu")
        if suffix == "ForMultipleChoice":
            model = _flat_choices(model)
        theirs = reference.flops(model, tokens, 2)
        architecture = described(model.config.to_dict())
        ours = sum(row.flops for row in architecture.operations(Workload(batch_size=2, new_tokens=tokens)))
        assert ours == theirs.total()

    @pytest.mark.parametrize(("model_type", "settings"), list(flops_settings()))
    def test_a_decoder_agrees_at_any_context(
        self, reference: Reference, model_type: str, settings: dict[str, Any]
    ) -> None:
        model = reference.shrunken(model_type, CLASSES[model_type][0], settings, "cpu")
        architecture = described(model.config.to_dict())
        for cached, tokens in ((0, 1), (0, 6), (0, 20), (3, 1), (6, 1), (7, 1), (8, 1), (20, 1), (5, 4)):
            check_context(reference, model, architecture, cached, tokens)

    @pytest.mark.parametrize(("model_type", "settings"), list(flops_settings()))
    def test_the_cache_holds_what_is_described(
        self, reference: Reference, model_type: str, settings: dict[str, Any]
    ) -> None:
        model = reference.shrunken(model_type, CLASSES[model_type][0], settings, "cpu")
        architecture = described(model.config.to_dict())
        for tokens in (1, 7, 8, 20):
            ids = reference.torch.ones((2, tokens), dtype=reference.torch.long)
            with reference.torch.no_grad():
                cache = model(input_ids=ids, use_cache=True).past_key_values
            held = [layer.keys.numel() + layer.values.numel() for layer in cache.layers]
            rows = architecture.state(Workload(batch_size=2, new_tokens=tokens), encodings.find("fp32"))
            # transformers drops a full window's oldest token at once; we keep it until the next one has come.
            state = count_state(architecture)
            per_token = state.kv_per_token // architecture.num_layers
            dropped = sum(2 * per_token for w in reference_windows(model) if w is not None and tokens >= w)
            assert sum(row.size_bytes for row in rows) == 4 * (sum(held) + dropped)


def check_context(reference: Reference, model: Any, architecture: Architecture, cached: int, tokens: int) -> None:
    """Holds the FLOPs of some new tokens after some cached ones against those that torch counts."""
    theirs, their_scores = split_scores(reference.flops(model, tokens, cached=cached), ours=False)
    workload = Workload(new_tokens=tokens, context_tokens=cached)
    ours, our_scores = split_scores(operations(architecture, workload), ours=True)
    assert ours == theirs
    if tokens == 1:
        assert our_scores == their_scores
        # This function counts the positions attended to, the token's own included.
        assert forward_flops_per_token(architecture, cached + 1) == sum(theirs.values()) + their_scores
        return
    per_position = 4 * architecture.num_heads * _head_dim(model)
    computed = causal = 0
    for window in reference_windows(model):
        # What the cache still holds for the next token: everything, or the window without that token.
        held = cached if window is None else min(cached, window - 1)
        computed += tokens * (held + tokens)
        causal += sum(min(cached + i + 1, window or cached + i + 1) for i in range(tokens))
    assert (their_scores, our_scores) == (per_position * computed, per_position * causal)


def _flat_choices(model: Any) -> Any:
    """A multiple-choice model that is given one choice a question, in the shape that the other classes take."""
    forward = model.forward

    def flat(input_ids: Any, **inputs: Any) -> Any:
        return forward(input_ids=input_ids.unsqueeze(1), **inputs)

    model.forward = flat
    return model


def _head_dim(model: Any) -> int:
    config = model.config
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


SHARD_MAPS = (
    "YouriLalain--2PRYMMAL-Yi1.5-6B-SLERP",
    "lizpreciatior--lzlv_70b_fp16_hf",
    "meta-llama--Llama-3.2-3B",
    "mistralai--Devstral-Small-2507",
    "deepcogito--cogito-v1-preview-qwen-14B",
    "alpindale--WizardLM-2-8x22B",
    "google--gemma-2b-it",
    "google--medgemma-27b-it",
    "YouriLalain--3PRYMMAL-PHI3-3B-SLERP",
    "stvlynn--Qwen-7B-Chat-Cantonese",
    "tiiuae--falcon-180B-chat",
    "allenai--Molmo-7B-D-0924",
)


class TestPublished:
    """Shard maps of published models. No torch is needed."""

    @pytest.mark.parametrize("model", SHARD_MAPS)
    def test_a_published_shard_map_names_what_is_described(self, model: str) -> None:
        config, index = DATA / f"configs/{model}.json", DATA / f"index/{model}.model.safetensors.index.json"
        if not (config.is_file() and index.is_file()):
            pytest.skip(f"{config} and {index} are not both here")
        architecture = described(json.loads(config.read_text()))
        # Some published maps have a second document appended: the first one counts.
        document, _ = json.JSONDecoder().raw_decode(index.read_text())
        # Packed weights (nf4) lie beside their scales, under `<name>.weight.<part>`.
        packed = {name for name in document["weight_map"] if ".weight." in name}
        names = set(document["weight_map"]) - packed
        # Falcon keeps the tied head too.
        stored = [tensor for tensor in architecture.tensors() if tensor.tied_to is None or tensor.name in names]
        assert sorted(tensor.name for tensor in stored) == sorted(names)
        size = document.get("metadata", {}).get("total_size")
        if size and not packed:  # all the others are published in 16 bits
            assert size == 2 * sum(tensor.elements for tensor in stored)
        parameters = document.get("metadata", {}).get("total_parameters")
        if parameters:  # MedGemma's counts the tied head a second time
            counted = count(architecture)
            assert parameters in (counted.total, counted.tied_per_use)

    def test_every_described_shard_map_is_checked(self) -> None:
        if not DATA.is_dir():
            pytest.skip(f"{DATA} is not here")
        described_types = {name for family in families.families() for name in family.model_types}
        suffix = ".model.safetensors.index.json"
        found = set()
        for path in sorted((DATA / "index").glob(f"*{suffix}")):
            config = DATA / f"configs/{path.name.removesuffix(suffix)}.json"
            if config.is_file() and json.loads(config.read_text()).get("model_type") in described_types:
                found.add(path.name.removesuffix(suffix))
        assert found == set(SHARD_MAPS)
