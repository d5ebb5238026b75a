"""What does a model weigh? Readers and descriptions brought together: the engine behind every door.

`inspect` returns an `Inspection`; the command line, the web page and the HTTP interface only print it, so that the same
input gives the same numbers in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weighbridge import family_guess, what_if
from weighbridge.errors import ConfigError, UnitError, UnknownNameError, WeighbridgeError, printable
from weighbridge.estimate import Basis, weakest
from weighbridge.family_guess import FamilyGuess
from weighbridge.formats import config as config_format
from weighbridge.formats import reader, reconcile
from weighbridge.formats.byte_source import LocalFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.reconcile import Reconciliation, Status
from weighbridge.formats.tensor_table import groups
from weighbridge.model import encodings, families, recipes
from weighbridge.model.architecture import Architecture, Workload
from weighbridge.model.buffers import buffer_reason, named_buffer
from weighbridge.model.catalogue import NamedModel
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.layouts import GGUF_NAMES
from weighbridge.model.recipes import Fallback, Packing
from weighbridge.model.tensors import Kind, TensorSpec
from weighbridge.predict import counts
from weighbridge.predict.counts import ParameterCount, StateCount

if TYPE_CHECKING:
    from weighbridge.formats import packed
    from weighbridge.formats.byte_source import Folder

STATE_ENCODINGS = ("bf16", "fp8", "q8_0")
DENOISER = "unet"
"""What diffusers calls the part that a latent passes once a step, where its configuration names the latent's size."""
OFFSET_POSITIONS = frozenset({
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet",
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
"""Model types whose tables of positions begin after the padding token's; source: their
`create_position_ids_from_input_ids` in transformers 5.23."""
PLAIN_ENCODINGS = ("fp32", "bf16", "fp16", "fp8", "int8", "int4")


@dataclass(frozen=True, slots=True)
class StoredCount:
    """What a file holds, by the header alone.

    `elements` counts every element of every named tensor; `buffers` those that are no parameters by name, type or rule;
    `quantization` those that packed weights need beside them (scales, zero points); `tied` those of names that share
    another tensor's storage; `parameters` the weights of the rest, unpacked, each storage once.
    """

    elements: int
    parameters: int
    buffers: int
    quantization: int
    tied: int
    by_encoding: Mapping[str, int]


def is_parameter(tensor: TensorSpec) -> bool:
    """Whether a stored tensor may be learned: it holds packed weights, or is no buffer by kind, name, shape or type."""
    if tensor.stands_for is not None:
        return True
    return tensor.kind is Kind.PARAMETER and buffer_reason(tensor.name, tensor.shape, tensor.encoding) is None


_UNDESCRIBED = (
    "nothing beside the file describes its model: its family is unknown",
    "an adapter is counted as it is stored",
)
_BY_RULES = (
    "total counts the stored weights that are no buffers, scales or settings, by rules of name, type and place: see "
    "--tensors"
)


def what_it_is(tensor: TensorSpec) -> dict[str, str | None]:
    """How a stored tensor counts (`parameter`, `buffer`, `quantization`), and for the latter two what it is.

    Example:
        >>> from weighbridge.model.encodings import find
        >>> what_it_is(TensorSpec("rotary.inv_freq", (32,), find("fp32")))
        {'kind': 'buffer', 'what': 'rotary frequencies'}
    """
    if is_parameter(tensor):
        return {"kind": "parameter", "what": None}
    if tensor.kind is Kind.QUANTIZATION:
        return {"kind": "quantization", "what": tensor.role.replace("_", " ") or None}
    by_name = named_buffer(tensor.name, tensor.shape)
    by_type = buffer_reason(tensor.name, tensor.shape, tensor.encoding)
    return {"kind": "buffer", "what": by_name or tensor.role.replace("_", " ") or by_type}


@dataclass(frozen=True)
class Inspection:
    """The weight of one model. `architecture` is None when no family describes it; then the header alone speaks."""

    source: str
    format: str
    checkpoint: Checkpoint
    hyperparameters: Hyperparameters | None
    architecture: Architecture | None
    reconciliation: Reconciliation
    context_tokens: int = 0
    notes: tuple[str, ...] = field(default=())
    basis: Basis = Basis.EXACT

    @cached_property
    def parameters(self) -> ParameterCount:
        """The counts: of the described model, or of the file's floating-point elements where none is described."""
        if self.architecture is not None:
            return counts.count(self.architecture)
        stored = self._held
        total = stored.parameters
        components = dict.fromkeys(counts.COMPONENTS, 0) | {"other": total}
        return ParameterCount(total=total, active_per_token=total, embedding=0, by_component=components, by_layer=(),
                              tied_embeddings=False, tied_per_use=total, biases=0, buffers=stored.buffers,
                              matmul=0)  # fmt: skip

    @cached_property
    def stored(self) -> StoredCount | None:
        """What the weight files hold; None for a bare configuration."""
        return self._held if self.checkpoint.files or self.format not in ("config", "pipeline") else None

    @cached_property
    def _held(self) -> StoredCount:
        parameters = buffers = quantization = tied = 0
        by_encoding: dict[str, int] = {}
        for tensor, count in groups(self.checkpoint.tensors):
            elements = tensor.elements * count
            by_encoding[tensor.encoding.name] = by_encoding.get(tensor.encoding.name, 0) + elements
            if tensor.tied_to is not None:
                tied += elements
            elif is_parameter(tensor):
                parameters += tensor.weights * count
            elif tensor.kind is Kind.QUANTIZATION:
                quantization += elements
            else:
                buffers += elements
        return StoredCount(sum(by_encoding.values()), parameters, buffers, quantization, tied, by_encoding)

    @cached_property
    def state(self) -> StateCount | None:
        """What the model keeps between tokens; None when no family describes it."""
        return None if self.architecture is None else counts.count_state(self.architecture)

    @cached_property
    def longest_context(self) -> int | None:
        """The positions that the configuration provides for tokens; None where it names none."""
        if self.hyperparameters is None or self.architecture is None:
            return None
        rows = self.hyperparameters.of_text("max_positions")
        if rows is None or self.hyperparameters.model_type not in OFFSET_POSITIONS:
            return rows
        padding = self.hyperparameters.settings.get("pad_token_id", 1)
        return rows - padding - 1 if type(padding) is int else rows

    def too_long(self, context_tokens: int) -> tuple[str, ...]:
        """A note when a context is longer than the configuration's positions; nothing otherwise."""
        longest = self.longest_context
        if longest is None or context_tokens <= longest:
            return ()
        return (f"the context of {context_tokens:,} is longer than the {longest:,} positions of the config",)

    @cached_property
    def family_guess(self) -> FamilyGuess | None:
        """The families that a file without a description comes nearest to, by the names of its tensors."""
        if self.architecture is not None or self.stored is None:
            return None
        return family_guess.guess(tensor.stands_for.name if tensor.stands_for else tensor.name
                                  for tensor, _ in groups(self.checkpoint.tensors) if is_parameter(tensor))  # fmt: skip

    @cached_property
    def packing(self) -> packed.Packing | None:
        """What is packed in the file and what that takes; None when nothing is."""
        if not self.checkpoint.tensors:
            return None
        from weighbridge.formats import packed

        return packed.packing(self.checkpoint)

    @cached_property
    def unpacked_elements(self) -> int:
        """The parameters that a file keeps as plain numbers."""
        return sum(tensor.elements * count for tensor, count in groups(self.checkpoint.tensors)
                   if tensor.tied_to is None and tensor.stands_for is None and is_parameter(tensor))  # fmt: skip

    @cached_property
    def flops_per_token(self) -> int | None:
        """FLOPs of one token's forward pass at the asked context; None when no family describes the model."""
        if self.architecture is None:
            return None
        return counts.forward_flops_per_token(self.architecture, self.context_tokens)

    @cached_property
    def flops_by_part(self) -> dict[str, int] | None:
        """FLOPs of one token, or of one pass, of each part of a pipeline; None for a single model."""
        if self.architecture is None or not self.architecture.parts:
            return None
        return {
            name: counts.forward_flops_per_token(part, self.context_tokens)
            for name, part in self.architecture.by_part().items()
        }

    def denoising_flops(self, steps: int) -> int | None:
        """FLOPs of so many passes of a pipeline's UNet; None for what is no pipeline with one.

        Guidance by a second, unconditioned pass in each step doubles it. The configuration of a diffusion transformer
        does not name the size of its latent, so its passes cannot be added up.
        """
        a_pass = (self.flops_by_part or {}).get(DENOISER)
        return None if a_pass is None else steps * a_pass

    def bytes_for(self, names: Iterable[str]) -> dict[str, int]:
        """Bytes of the tensors in these encodings and mixes, as far as each can store this model."""
        if self.architecture is None:
            elements = self.parameters.total
            return {n: encodings.find(n).size_bytes((elements,)) for n in names if n in PLAIN_ENCODINGS}
        return {name: packing.size_bytes for name, packing in self._packings(names)}

    def _packings(self, names: Iterable[str]) -> Iterator[tuple[str, Packing]]:
        """The model in each of these mixes, as far as they can store it; each is worked out once."""
        for name in names:
            recipe = recipes.RECIPES[name]
            if self.architecture is not None and recipe.runs(self.architecture):
                packing = self._packed.get(name) or recipe.pack(self.architecture)
                self._packed[name] = packing
                if packing.is_possible:
                    yield name, packing

    @cached_property
    def _packed(self) -> dict[str, Packing]:
        return {}

    @cached_property
    def bytes_by_encoding(self) -> dict[str, int]:
        """Bytes of the tensors in every encoding and mix; a file's header comes on top."""
        return self.bytes_for(recipes.RECIPES)

    def fallbacks_for(self, names: Iterable[str]) -> dict[str, tuple[Fallback, ...]]:
        """For each of these mixes what it cannot encode as meant; mixes without any are left out."""
        found = {name: packing.fallbacks for name, packing in self._packings(names)}
        return {name: fallbacks for name, fallbacks in found.items() if fallbacks}

    def to_json(self) -> dict[str, Any]:
        """The document of the JSON contract."""
        known, counted = self.architecture is not None, self.parameters
        return {
            "source": self.source,
            "format": self.format,
            "family": self.architecture.family if self.architecture else None,
            "model_type": self.hyperparameters.model_type if self.hyperparameters else None,
            "family_guess": self.family_guess.to_json() if self.family_guess else None,
            "parameters": {
                "total": counted.total,
                "active_per_token": counted.active_per_token if known else None,
                "embedding": counted.embedding if known else None,
                "non_embedding": counted.non_embedding if known else None,
                "tied_embeddings": counted.tied_embeddings if known else None,
                "by_component": dict(counted.by_component),
                "by_part": dict(counted.by_part) or None,
                "by_layer": list(counted.by_layer),
                "conventions": counted.conventions if known else {self._uncounted: counted.total},
                "stored_elements": self.stored.elements if self.stored else None,
                "buffers": self.stored.buffers if self.stored else None,
                "quantization": self.stored.quantization if self.stored else None,
                "tied_copies": self.stored.tied if self.stored else None,
                "mtp": counted.mtp,
            },
            "bytes": {
                "stored": self.checkpoint.size_bytes if self.stored else None,
                "tensors": self.checkpoint.tensor_bytes if self.stored else None,
                "header": sum(f.header_bytes for f in self.checkpoint.files) if self.stored else None,
                "padding": sum(f.padding_bytes for f in self.checkpoint.files) if self.stored else None,
                "by_encoding": self.bytes_by_encoding,
                "fallbacks": {name: [fallback.to_json() for fallback in fallbacks]
                              for name, fallbacks in self.fallbacks_for(recipes.RECIPES).items()},
                "stored_elements_by_encoding": dict(self.stored.by_encoding) if self.stored else None,
            },
            "state": self.state_json(),
            "flops": {
                "per_token_forward": self.flops_per_token,
                "matmul_parameters": counted.matmul if known else None,
                "context_tokens": self.context_tokens,
                "by_part": self.flops_by_part,
            },
            "packing": self._packing_json(),
            "reconciliation": self.reconciliation.to_json(),
            "settings": self._settings_json(),
            "basis": {"parameters": self.basis.value, "bytes.stored": "exact",
                      "bytes.by_encoding": weakest([self.basis, Basis.SPECIFIED]).value, "state": self.basis.value,
                      "flops": self.basis.value},
            "files": [{"name": f.name, "size_bytes": f.size_bytes, "header_bytes": f.header_bytes,
                       "tensor_bytes": f.tensor_bytes, "padding_bytes": f.padding_bytes}
                      for f in self.checkpoint.files],
            "digest": self.checkpoint.digest or None,
            "remote": self.checkpoint.remote.to_json() if self.checkpoint.remote else None,
            "notes": list(self.notes),
        }  # fmt: skip

    @property
    def _uncounted(self) -> str:
        """The one convention of a total that no description stands behind."""
        return "floating_point_elements" + ("_stored" if self.stored else "")

    def state_json(self) -> dict[str, Any]:
        """The part `state` of the JSON contract."""
        state = self.state
        if state is None:
            return {"kv_bytes_per_token": None, "kv_bytes_per_token_global": None, "recurrent_bytes_per_sequence": None,
                    "cross_bytes_per_sequence": None, "note": "unknown: no family describes this model"}  # fmt: skip
        windows = ", ".join(f"{window:,}" for window in state.windows)
        bf16 = encodings.find("bf16")
        per_token = {name: state.kv_bytes_per_token(encodings.find(name)) for name in STATE_ENCODINGS}
        notes = [f"layers with a window stop growing after {windows} tokens"] if windows else []
        notes += [f"{name} cannot hold the cache: its rows are no whole number of blocks"
                  for name, size in per_token.items() if size is None]  # fmt: skip
        assert self.architecture is not None
        held = Workload(new_tokens=self.context_tokens)
        return {
            "bytes_at_context": {"bf16": counts.state_bytes(self.architecture, held, bf16) if held.new_tokens else 0},
            "kv_bytes_per_token": per_token,
            "kv_bytes_per_token_global": {"bf16": state.kv_bytes_per_token_global(bf16)},
            "recurrent_bytes_per_sequence": state.recurrent_per_sequence * bf16.bytes_per_block,
            "cross_bytes_per_sequence": state.cross_per_sequence * bf16.bytes_per_block,
            "note": "; ".join(notes),
        }

    def _packing_json(self) -> dict[str, Any] | None:
        found = self.packing
        if found is None:
            return None
        return {
            "method": found.method, "weights": found.weights, "weight_bits": found.weight_bits,
            "bits_per_weight": found.bits_per_weight, "overhead_bits_per_weight": found.overhead_bits_per_weight,
            "bytes": dict(found.bytes_by_role), "unpacked_elements": self.unpacked_elements,
        }  # fmt: skip

    def _settings_json(self) -> dict[str, str]:
        if self.checkpoint.config is None:
            return {}
        return config_format.kinds_of_settings(self.checkpoint.config)

    def tensors_json(self) -> list[dict[str, Any]]:
        """Every tensor: those of the file, or those of the description where there is no file."""
        stored = self.stored is not None
        return [
            {"name": t.name, "shape": list(t.shape), "elements": t.elements, "tied_to": t.tied_to, **what_it_is(t),
             "stands_for": None if t.stands_for is None else
             {"name": t.stands_for.name, "shape": list(t.stands_for.shape)},
             "encoding": t.encoding.name if stored else None, "bytes": t.size_bytes if stored else None}
            for t in self.tensors
        ]  # fmt: skip

    @cached_property
    def tensors(self) -> Sequence[TensorSpec]:
        """The stored tensors; for a configuration alone the described ones, whose encoding is not known."""
        if self.stored is not None or self.architecture is None:
            return self.checkpoint.tensors
        return tuple(self.architecture.tensors())


def inspect(
    source: str | Path | Mapping[str, Any] | Checkpoint | NamedModel,
    *,
    context_tokens: int = 0,
    settings: Mapping[str, Any] | None = None,
    like: str | None = None,
    with_transformers: bool = False,
) -> Inspection:
    """Weighs a model: a path, a name, a configuration as a mapping, a checkpoint, or a live `torch.nn.Module`.

    Args:
        source: a folder, a weight file, an index or a `config.json`; or the name of a model of the catalogue; or a
            mapping with the keys of a `config.json`; or what `weighbridge.formats.torch_module.read_module` and other
            readers return.
        context_tokens: positions that the token of the FLOPs count attends to.
        settings: keys of the configuration to change first, for what-if questions.
        like: a family or model type to count an unknown model type by; every number is then assumed.
        with_transformers: count in the reference class of transformers, for model types that no family describes.

    Raises:
        WeighbridgeError: when the source cannot be read, or nothing can be counted in it.

    Example:
        >>> shape = {"model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
        ...          "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256,
        ...          "tie_word_embeddings": True}
        >>> llama = inspect(shape)
        >>> llama.parameters.total, llama.parameters.tied_per_use
        (1235814400, 1498482688)
        >>> inspect(shape, settings={"num_hidden_layers": 17}).parameters.total - llama.parameters.total
        60821504
    """
    if type(context_tokens) is not int or not 0 <= context_tokens < 2**40:
        read = f"the context is {str(context_tokens)[:40]!r}"
        raise UnitError(read, f"a whole number of tokens from 0 to {2**40 - 1:,}", "correct it")
    checkpoint = _checkpoint(source)
    notes: list[str] = []
    if settings:
        if checkpoint.config is None:
            raise ConfigError(
                f"{checkpoint.source} has no config.json to change", "a configuration", "name a config.json"
            )
        before = checkpoint.config
        config = what_if.changed(before, settings, checkpoint.source)
        checkpoint = replace(checkpoint, config=config, tensors=(), files=(), parts={}, format="config")
        told = ", ".join(f"{key} = {value}" for key, value in settings.items())
        notes.append(f"settings were changed: {told}" + _without_effect(before, checkpoint))
    basis = Basis.EXACT
    if with_transformers:
        checkpoint, basis = _reference(checkpoint, like), Basis.SPECIFIED
    elif like is not None:
        if checkpoint.config is None:
            raise ConfigError(f"{checkpoint.source} has no config.json", "a configuration for --like", "name one")
        config = what_if.alike(checkpoint.config, like, checkpoint.source)
        checkpoint, basis = replace(checkpoint, config=config), Basis.ASSUMED
        notes.append(f"the model type is not known; counted as if it were {like}, which is an assumption")
    hyperparameters, architecture, reason = (None, None, "") if with_transformers else _describe(checkpoint)
    if like is not None and architecture is None and not with_transformers:
        raise ConfigError(f"{checkpoint.source} cannot be counted like {like}: {reason}", "settings that it can have",
                          "name another family, or leave --like out")  # fmt: skip
    if reason:
        notes.append(reason)
    if architecture is not None:
        notes += architecture.notes
        notes += _left_out(architecture)
        if architecture.has_tower:
            notes.append("FLOPs are those of a token of text: the tower works once for each picture or clip")
    notes += _warnings(checkpoint)
    reconciliation = _reconcile(checkpoint, architecture, hyperparameters)
    if architecture is not None and isinstance(source, str | Path) and _foreign(source, checkpoint, architecture):
        notes.append("the config.json beside the file describes another model and was left aside")
        hyperparameters = architecture = None
        reconciliation = Reconciliation(Status.NOT_APPLICABLE, note="no family describes this file")
    if architecture is None and not with_transformers:
        notes += [] if checkpoint.format == "peft" else [_BY_RULES]
    found = Inspection(checkpoint.source, checkpoint.format, checkpoint, hyperparameters, architecture, reconciliation,
                       context_tokens, tuple(notes), basis)  # fmt: skip
    return replace(found, notes=(*found.notes, *found.too_long(context_tokens)))


def _without_effect(before: Mapping[str, Any], changed: Checkpoint) -> str:
    """A warning for settings that change nothing in the description."""
    assert changed.config is not None
    try:
        old, new = (families.build(config_format.hyperparameters(config, changed.source))
                    for config in (before, changed.config))  # fmt: skip
    except WeighbridgeError:
        return ""  # the description of what was changed says what is wrong with it
    return "" if old != new else ", which changes nothing that is counted: this wiring does not read it"


def _reference(checkpoint: Checkpoint, like: str | None) -> Checkpoint:
    """The reference class of a checkpoint's configuration, as a table of tensors."""
    if like is not None:
        raise UnitError("a family and the reference class are both asked for", "one of them", "leave one out")
    if checkpoint.config is None:
        read = f"{checkpoint.source} has no config.json that names a class"
        raise ConfigError(read, "a configuration", "name a config.json")
    from weighbridge.formats import transformers_class

    return transformers_class.read(checkpoint.config, checkpoint.source)


def _checkpoint(source: Any) -> Checkpoint:
    if isinstance(source, Checkpoint):
        return _unpacked(source)
    if isinstance(source, str | Path):
        checkpoint, place = reader.read(source), Path(source)
        is_remote = checkpoint.remote is not None
        folder = None if is_remote else LocalFolder(place if place.is_dir() else place.parent)
        return _unpacked(checkpoint, folder)
    if isinstance(source, NamedModel):
        return reader.named(source)
    if isinstance(source, Mapping) and not any(hasattr(value, "shape") for value in source.values()):
        return Checkpoint("config", "config", (), (), config=source)
    from weighbridge.formats import torch_module

    return torch_module.read_module(source)


def _unpacked(checkpoint: Checkpoint, folder: Folder | None = None) -> Checkpoint:
    """The checkpoint, whose packed tensors say what they stand for."""
    if not checkpoint.tensors and not checkpoint.parts:
        return checkpoint
    from weighbridge.formats import packed  # not loaded for a bare configuration

    return packed.unpacked(checkpoint, folder)


def _describe(checkpoint: Checkpoint) -> tuple[Hyperparameters | None, Architecture | None, str]:
    """The description of a checkpoint's model; for weights without one, None and the reason."""
    try:
        if checkpoint.format == "gguf":
            from weighbridge.formats import gguf_config

            found = gguf_config.hyperparameters(checkpoint)
        elif checkpoint.config is not None:
            where = f"the configuration beside {checkpoint.source}" if checkpoint.files else checkpoint.source
            found = config_format.hyperparameters(checkpoint.config, where)
        else:
            return None, None, _UNDESCRIBED[checkpoint.format == "peft"]
        return found, families.build(found), ""
    except WeighbridgeError as error:
        if not checkpoint.tensors:
            raise
        kind = "family unknown" if isinstance(error, UnknownNameError) else "description left out"
        return None, None, f"{kind}: {error}"


def _left_out(architecture: Architecture) -> list[str]:
    """What llama.cpp's files do not hold of a model that they hold otherwise, so that its mixes are smaller by that."""
    if architecture.gguf_architecture is None:
        return []
    left_out = [
        g for g in architecture.groups if g.weight.role not in GGUF_NAMES and g.weight.tied_to is None and not g.mtp
    ]
    elements = sum(group.elements for group in left_out if group.weight.kind is Kind.PARAMETER)
    roles = ", ".join(sorted({group.weight.role.replace("_", " ") for group in left_out}))
    return [f"llama.cpp's files leave {elements:,} parameters out: {roles}"] if elements else []


def _warnings(checkpoint: Checkpoint) -> list[str]:
    """What a reader noticed that the user should know."""
    notes = [*checkpoint.notes, *(checkpoint.metadata.get("notes", ()) if checkpoint.format == "safetensors" else ())]
    declared = (checkpoint.config or {}).get("quantization_config")
    if isinstance(declared, Mapping) and (checkpoint.packed_by or not checkpoint.tensors):
        said = str(declared.get("quant_method", "a method that is not named"))[:40]
        method = checkpoint.packed_by or printable(said)
        notes.append(f"the config says that the weights are packed by {method}; counts are those of the model unpacked")
    foreign = checkpoint.metadata.get("foreign_names", ()) if checkpoint.format == "torch" else ()
    if foreign:
        shown = ", ".join(foreign[:3]) + (" ..." if len(foreign) > 3 else "")
        notes.append(f"the pickle names {shown}, which loading it with pickle would import; it was read without")
    return notes


def _reconcile(
    checkpoint: Checkpoint, architecture: Architecture | None, hyperparameters: Hyperparameters | None
) -> Reconciliation:
    if checkpoint.parts:
        return reconcile.together(
            {name: _reconcile(part, *_describe(part)[1::-1]) for name, part in checkpoint.parts.items()}
        )
    if checkpoint.format == "config":
        return Reconciliation(Status.NOT_APPLICABLE, note="a configuration alone: no file to hold it against")
    if architecture is None or hyperparameters is None:
        return Reconciliation(Status.NOT_APPLICABLE, note="no family describes this file")
    if "not_unpacked" in checkpoint.metadata:
        method = printable(str(checkpoint.metadata["not_unpacked"]))
        return Reconciliation(Status.NOT_APPLICABLE, note=f"packed by {method}, which is not unpacked here")
    return reconcile.reconcile(architecture, checkpoint, hyperparameters.inferred)


def _foreign(source: str | Path, checkpoint: Checkpoint, architecture: Architecture) -> bool:
    """Whether a weight file that was named itself has little to do with the configuration beside it."""
    is_repository = checkpoint.remote is not None and checkpoint.remote.revision is not None
    if is_repository or Path(source).is_dir() or checkpoint.config is None or not checkpoint.files:
        return False
    return reconcile.overlap(architecture, checkpoint) < 0.5
