"""Will it run, in how much memory, how fast, on which machine? Model, machine and service brought together.

`fit` is the engine behind `weigh fit`; `rankings` asks the inverse questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge import units
from weighbridge.errors import ConfigError, SourceError, UnitError, UnknownNameError, WeighbridgeError
from weighbridge.estimate import Basis, Estimate
from weighbridge.formats import reader
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.device import Device
from weighbridge.hardware.instances import Instance, find_instance, looks_like_instance, unknown_instance
from weighbridge.hardware.machine import Machine, machine
from weighbridge.hardware.measured import HERE
from weighbridge.hardware.probe import kept_at, saved_device
from weighbridge.inspection import Inspection, inspect
from weighbridge.model import recipes
from weighbridge.model.architecture import Architecture
from weighbridge.model.catalogue import NamedModel
from weighbridge.model.recipes import Recipe
from weighbridge.predict import here, power, speed
from weighbridge.predict.carbon import ANYWHERE, Site, site
from weighbridge.predict.cost import cost, energy
from weighbridge.predict.demand import Demand, StoredWeights, demand, stored_weights, weights_of_file
from weighbridge.predict.memory import SYSTEM_SHARE, Beside, Draft, MemoryPlan, Planner
from weighbridge.predict.service import Service, service
from weighbridge.predict.speed import Speed

SMALLER = ("q8_0", "q4_k_m", "q2_k")
SMALLER_SERVED = ("fp8", "awq-int4-g128")
ENCODINGS = {"fp4": "nvfp4"}
"""Short names of encodings that mean one way to store them."""


@dataclass(frozen=True, slots=True)
class Host:
    """What llama.cpp leaves to the processor: all layers but so many, and the experts of so many of the others."""

    gpu_layers: int | None = None
    cpu_experts: int = 0


@dataclass(frozen=True, slots=True)
class Guesser:
    """A draft model as it was read, and the encoding that it is planned in."""

    inspection: Inspection
    recipe: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A model on a machine: what it takes, how fast it is, what else could be done. `joules` are those of a token.

    `host` says what llama.cpp leaves to the processor, `adapters` and `draft` what lies beside the model.
    """

    source: str
    inspection: Inspection
    machine: Machine
    service: Service
    weights: StoredWeights
    memory: MemoryPlan
    speed: Speed
    joules: Estimate
    alternatives: tuple[Alternative, ...] = ()
    notes: tuple[str, ...] = ()
    site: Site = ANYWHERE
    host: Host = Host()
    adapters: tuple[str, ...] = ()
    draft: Guesser | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of the JSON contract."""
        return {
            "source": self.source,
            "weights": self.weights.recipe,
            "runtime": self.service.runtime.name,
            "machine": self.machine.to_json(),
            "service": {
                "prompt_tokens": self.service.prompt_tokens, "output_tokens": self.service.output_tokens,
                "context_tokens": self.service.context_tokens, "batch": self.service.batch,
                "concurrency": self.service.concurrency, "kv": self.service.kv,
            },
            "memory": self.memory.to_json(),
            "speed": self.speed.to_json(),
            "cost": cost(self.machine, self.speed, self.service),
            "energy": energy(self.joules, self.site),
            "alternatives": [alternative.to_json() for alternative in self.alternatives],
            "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Alternative:
    """A plan that differs in one thing, and what that changes."""

    change: str
    plan: Plan

    @property
    def memory_total_bytes(self) -> Estimate:
        """What its devices hold."""
        return self.plan.memory.total_bytes

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None where the memory is unknown."""
        return self.plan.memory.fits

    @property
    def decode_tok_s(self) -> Estimate:
        """Tokens a second of one sequence."""
        return self.plan.speed.decode_tok_s

    def to_json(self) -> dict[str, Any]:
        """One entry of `alternatives`."""
        return {"change": self.change, "memory_total_bytes": self.memory_total_bytes.to_json(), "fits": self.fits,
                "decode_tok_s": self.decode_tok_s.to_json()}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked of `fit`, so that it can be asked again with something changed, as pictures do."""

    source: Any
    device: Device
    options: Mapping[str, Any]

    def ask(self, device: Device | None = None, **changes: Any) -> Plan:
        """The plan with these changes, on this device instead; without alternatives of its own.

        Example:
            >>> question = Question(inspect("llama-3.1-8b"), find_device("rtx-4090"), {"weights": "q4_k_m"})
            >>> question.ask(batch=8).memory.state_bytes.value / question.ask().memory.state_bytes.value
            8.0
        """
        return fit(self.source, device or self.device, **{**self.options, **changes, "alternatives": False})


def fit(
    source: str | Path | Mapping[str, Any] | Checkpoint | NamedModel | Inspection,
    on: str | Device,
    *,
    devices: int = 1,
    weights: str | None = None,
    runtime: str | None = None,
    kv: str | None = None,
    prompt_tokens: int = 512,
    output_tokens: int = 128,
    context_tokens: int | None = None,
    batch: int | None = None,
    concurrency: int | None = None,
    tensor_parallel: int | None = None,
    pipeline_parallel: int | None = None,
    data_parallel: int | None = None,
    expert_parallel: int | None = None,
    utilization: float | None = None,
    max_sequences: int | None = None,
    flash_attention: bool = True,
    threads: int | None = None,
    gpu_layers: int | None = None,
    cpu_experts: int | None = None,
    adapters: Sequence[str | Path] = (),
    draft: str | Path | NamedModel | None = None,
    own_devices: Sequence[Device] = (),
    grid: str | None = None,
    pue: str | None = None,
    alternatives: bool = True,
) -> Plan:
    """Plans a model on a machine.

    Args:
        source: what `inspect` takes.
        on: a device of the catalogue by any of its names, a device, an instance of a cloud with its devices, or `here`
            for this machine as it was probed.
        devices: how many of them, or of the instance; without a layout they share each matrix, under llama.cpp the
            layers.
        weights: the encoding or mix of the weights; without it that of the file or the configuration, or else bf16.
        runtime: the engine; llama.cpp for a GGUF file, a GGUF encoding or a machine that is no accelerator, else vllm.
        kv: the encoding of the cache, or of keys and values as `q8_0/q4_0`; bf16 without it.
        prompt_tokens: tokens of a prompt.
        output_tokens: tokens of an answer.
        context_tokens: tokens that a sequence may hold; prompt and output together without it.
        batch: sequences decoded together, from prompts that come together; 1 without it.
        concurrency: clients of a closed loop, each waiting for its answer.
        tensor_parallel: devices that share each matrix.
        pipeline_parallel: groups of layers.
        data_parallel: copies of the attention.
        expert_parallel: groups of experts.
        utilization: the share of a device that the engine takes.
        max_sequences: the most sequences that the engine works on at once; without it, memory alone bounds them.
        flash_attention: llama.cpp's, which it has on where the device can.
        threads: threads of a processor.
        gpu_layers: layers on the card under llama.cpp; the others stay with the processor.
        cpu_experts: layers whose routed experts stay with the processor under llama.cpp.
        adapters: folders or files of low-rank adapters that are held beside the weights, as PEFT writes them.
        draft: a smaller model that guesses the next tokens, held beside the model; what `inspect` takes.
        own_devices: devices of the user's own file.
        grid: where the power comes from, as `weigh grids` names it, or grams of CO2 equivalent a kilowatt-hour.
        pue: an operator of data centres, or the energy of a data centre over that of its machines.
        alternatives: whether to plan smaller encodings and more devices too.

    Raises:
        WeighbridgeError: when the source cannot be read, is not described, or the plan contradicts itself.

    Example:
        >>> plan = fit("llama-2-70b", "h100-sxm", devices=2, context_tokens=4096, weights="fp16")
        >>> plan.memory.state_bytes.value, plan.memory.fits
        (1342177280, True)
        >>> fit("llama-2-70b", "rtx-4090", weights="q4_k_m").memory.fits
        False
    """
    inspection = source if isinstance(source, Inspection) else inspect(source)
    architecture = _described(inspection)
    device, instance = rented(on, own_devices)
    if instance is not None:
        devices *= instance.devices
    recipe = _recipe(inspection, weights)
    engine = runtime or (
        "llama.cpp" if gpu_layers is not None or cpu_experts else _runtime(inspection, recipe.kind, device)
    )
    asked = service(engine, prompt_tokens=prompt_tokens, output_tokens=output_tokens, context_tokens=context_tokens,
                    batch=batch, concurrency=concurrency, kv=kv, utilization=utilization, threads=threads,
                    max_sequences=max_sequences, flash_attention=flash_attention)  # fmt: skip
    built = machine(device, devices, tensor_parallel=tensor_parallel, pipeline_parallel=pipeline_parallel,
                    data_parallel=data_parallel, expert_parallel=expert_parallel,
                    layers_split=asked.runtime.splits_layers)  # fmt: skip
    need = demand(architecture)
    host = Host(gpu_layers, cpu_experts or 0)
    _check(need, built, asked, recipe.name, host)
    stored = _stored(inspection, architecture, weights, asked)
    guesser = None if draft is None else inspect(draft)
    small = None if guesser is None else _draft(guesser, need, weights, asked)
    beside = Beside(sum(_adapter_bytes(one, architecture) for one in adapters), small)
    planned = _plan(inspection, need, stored, built, asked, beside, host)
    planned = replace(planned, site=site(grid, pue), host=host, adapters=tuple(map(str, adapters)),
                      draft=Guesser(guesser, small.stored.recipe) if guesser and small else None)  # fmt: skip
    if instance is not None:
        what = f"{instance.name} of {instance.cloud} has {instance.devices} x {device.title}"
        dated = f"; its price is of {instance.price_date}" if instance.price_date else ""
        planned = replace(planned, notes=(*planned.notes, what + dated, *instance.notes))
    if _is_as_stored(inspection, weights):
        mixed = f"the weights are planned as the file stores them, {recipe.name} being the encoding of most of them"
        planned = replace(planned, notes=(*planned.notes, mixed))
    if not alternatives:
        return planned
    return replace(planned, alternatives=tuple(_alternatives(planned, need, beside, host)))


def find(on: str | Device, own_devices: Sequence[Device] = ()) -> Device:
    """The device of a name, among the user's own ones first; `here` is this machine as `weigh probe` saved it.

    Raises:
        UnknownNameError: when there is none.
        SourceError: for `here` without a saved probe.
    """
    if isinstance(on, Device):
        return on
    if on.strip().lower() == HERE:
        return saved_device(kept_at())
    return find_device(on, tuple(own_devices))


def rented(on: str | Device, own_devices: Sequence[Device] = ()) -> tuple[Device, Instance | None]:
    """The device of a name, or that of the cloud's instance of this name at its share of the price, with the instance.

    Raises:
        UnknownNameError: when there is neither.
    """
    try:
        return find(on, own_devices), None
    except UnknownNameError:
        instance = find_instance(str(on))
        if instance is None and looks_like_instance(str(on)):
            raise unknown_instance(str(on)) from None
        if instance is None:
            raise
        return instance.rented, instance


def adapter(source: str | Path) -> Checkpoint:
    """The file of a low-rank adapter, or that in the folder that PEFT wrote.

    Raises:
        SourceError: when there is none.
        ConfigError: when it has no low-rank matrices.
    """
    place = Path(source)
    if place.is_dir():
        names = ("adapter_model.safetensors", "adapter_model.bin")
        found = next((place / name for name in names if (place / name).exists()), None)
        if found is None:
            raise SourceError(f"{source} has no adapter", " or ".join(names), "name the folder that PEFT wrote")
        place = found
    checkpoint = reader.read(place)
    if not any(".lora_" in tensor.name for tensor in checkpoint.tensors):
        raise ConfigError(f"{source} has no low-rank matrices", "an adapter as PEFT writes it", "name its folder")
    return checkpoint


def _adapter_bytes(source: str | Path, architecture: Architecture) -> int:
    """Bytes of the tensors of a low-rank adapter.

    Raises:
        WeighbridgeError: when there is none, or its matrices do not fit those of the model.
    """
    checkpoint = adapter(source)
    sizes = {size for group in architecture.groups for size in group.weight.shape}
    for tensor in checkpoint.tensors:
        if ".lora_" in tensor.name and not sizes.intersection(tensor.shape):
            read = f"{Path(source).name} has {tensor.name[:100]} of {' x '.join(map(str, tensor.shape))}"
            raise ConfigError(read, "an adapter of this model", "name one that was made for it")
    return sum(tensor.size_bytes for tensor in checkpoint.tensors)


def _check(need: Demand, built: Machine, asked: Service, recipe: str, host: Host) -> None:
    """Refuses what the model or the engine cannot do, instead of leaving it aside.

    Raises:
        ConfigError: for models of pictures and sound alone, which no prompt of tokens describes.
        UnitError: for a layout, a number of layers or an encoding that contradicts the model or the engine.
    """
    if need.vocab_size <= 1:
        read = "a model without tokens"
        raise ConfigError(read, "one that reads or writes text", "see `weigh inspect` for its bytes and FLOPs")
    engine, tensor = asked.runtime, built.tensor_parallel
    kv_heads = max((cache.heads for cache in need.caches), default=1)
    uneven = need.num_heads % tensor or (kv_heads % tensor and tensor % kv_heads)
    if not engine.splits_layers and need.caches and uneven:
        of_keys = "" if kv_heads in (1, need.num_heads) else f", {kv_heads} of keys and values,"
        read = f"{need.num_heads} heads{of_keys} on {tensor} devices that share each matrix"
        raise UnitError(read, f"heads that divide evenly, as {engine.name} demands", "choose another layout")
    if built.device.name == HERE and built.devices > 1:
        raise UnitError(f"{built.devices} of this machine", "one", "leave the number of devices out")
    if engine.name == "tensorrt-llm" and built.device.vendor not in ("NVIDIA", ""):
        raise UnitError(f"tensorrt-llm on {built.device.title}", "a card of NVIDIA", "choose another engine")
    if built.pipeline_parallel > need.num_layers:
        read = f"{need.num_layers} layers in {built.pipeline_parallel} groups"
        raise UnitError(read, "a layer for each group", "choose another layout")
    if built.expert_parallel > 1 and not need.num_experts:
        raise UnitError("expert parallelism for a model without experts", "a mixture", "leave it out")
    if need.num_experts and built.expert_parallel > need.num_experts:
        read = f"{need.num_experts} experts in {built.expert_parallel} groups"
        raise UnitError(read, "an expert for each group", "choose another layout")
    if (tensor * built.data_parallel) % built.expert_parallel:
        read = f"{built.expert_parallel} groups of experts on {tensor * built.data_parallel} devices of a layer"
        raise UnitError(read, "groups that divide them", "choose another layout")
    if not _runs(engine.name, recipe):
        likely = "q4_k_m" if engine.splits_layers else "fp8"
        raise UnitError(f"{recipe} under {engine.name}", "an encoding that it runs", f"choose one such as {likely}")
    on_card = engine.splits_layers and built.device.kind in ("gpu", "accelerator")
    if host.gpu_layers is not None and (host.gpu_layers < 0 or not on_card):
        read = f"{host.gpu_layers} layers on {built.device.title} under {engine.name}"
        raise UnitError(read, "layers on a card under llama.cpp", "leave the number of layers out")
    if host.cpu_experts and (host.cpu_experts < 0 or not on_card or not need.num_experts):
        read = f"experts of {host.cpu_experts} layers on the processor, beside {built.device.title} under {engine.name}"
        raise UnitError(read, "a mixture on a card under llama.cpp", "leave the number of layers out")


WIDE = ("fp32", "fp16", "bf16")


def _runs(engine: str, recipe: str) -> bool:
    """Whether an engine runs weights of a recipe: llama.cpp those of GGUF files, TensorRT-LLM none of them."""
    kind = recipes.find(recipe).kind
    if engine in ("llama.cpp", "ollama"):
        return kind == "gguf" or recipe in (*WIDE, "mxfp4")
    if engine in ("tensorrt-llm", "transformers"):
        return kind != "gguf"
    if engine == "onnxruntime":
        return recipe in (*WIDE, "int8", "int4", "w8a8")
    return True


NO_DECODING = "the model does not generate: no speed is predicted"


def _generates(need: Demand) -> bool:
    return bool(need.caches or need.recurrent_elements or need.cross_elements)


def _plan(
    inspection: Inspection, need: Demand, stored: StoredWeights, built: Machine, asked: Service, beside: Beside,
    host: Host,
) -> Plan:  # fmt: skip
    planner = Planner(need, stored, built, asked, beside, host.gpu_layers, host.cpu_experts)
    read = replace(stored, dense_bytes=stored.dense_bytes + beside.adapter_bytes)
    memory = planner.plan()
    if any("which is not in the state" in note for note in inspection.notes):
        memory = replace(memory, state_bytes=_without_indexer(memory.state_bytes))
    notes = list(inspection.notes)
    kernels = built.device.measured and built.device.measured.kernels_of(asked.runtime.name)
    if not _generates(need):
        fastest = speed.unknown(NO_DECODING)
    elif kernels and here.is_timed(stored, kernels) and built.devices == 1:
        fastest = here.speed(need, stored, built, asked, kernels)
    else:
        fastest = speed.speed(need, read, built, asked)
        if planner.host_share or planner.expert_share:
            fastest = speed.offloaded(fastest, read, need, asked, planner.host_share, planner.expert_share)
    if host != Host() and memory.host_bytes:
        left = units.format_bytes(memory.host_bytes)
        notes.append(f"{left} stay with the processor, whose memory is not known")
    if built.capacity_bytes is None:
        notes.append(f"the memory of {built.device.title} is unknown: whether it fits is not known")
    elif memory.fits is False:
        notes.append("it does not fit: the speed is that of a machine that has room")
    if beside.draft is not None:
        size = units.format_bytes(beside.draft.stored.total_bytes)
        notes.append(f"the draft {beside.draft.name}, {size} of weights, is counted in the memory, not in the speed: "
                     "how many of its guesses hold depends on the text")  # fmt: skip
    if built.device.kind in SYSTEM_SHARE and asked.reserves is None:
        notes.append(f"a system lives in the memory too: {SYSTEM_SHARE[built.device.kind]:.0%} of it is assumed usable")
    notes += inspection.too_long(asked.context_tokens)
    notes += fastest.notes
    joules = power.joules(need, read, built, asked, fastest)
    return Plan(inspection.source, inspection, built, asked, stored, memory, fastest, joules, notes=tuple(notes))


INDEXER_SHARE = 1.15
"""At most, the state with the indexer's keys over that without: 132 bytes beside 1,152 of DeepSeek-V3.2's latent."""


def _without_indexer(state: Estimate) -> Estimate:
    """The state where a cache of its own is not described: at least this, and an assumed share more."""
    assert state.value is not None
    return replace(state, low=state.value, high=INDEXER_SHARE * state.value, basis=Basis.ASSUMED,
                   note="without the indexer's own cache, which comes to it")  # fmt: skip


def _is_as_stored(inspection: Inspection, weights: str | None) -> bool:
    return weights is None and inspection.format == "gguf" and inspection.stored is not None


def _stored(inspection: Inspection, architecture: Architecture, weights: str | None, asked: Service) -> StoredWeights:
    """The weights in the encoding that is asked for, or as the file stores them."""
    recipe = _recipe(inspection, weights)
    if _is_as_stored(inspection, weights):
        return weights_of_file(recipe.name, inspection.checkpoint.tensors)
    found = _as_stored(stored_weights(architecture, recipe), recipe, asked)
    if weights is None and inspection.stored is not None and _packed_recipe(inspection):
        # What the files hold is known to the byte; how a recipe differs from it is in the matrices.
        total = sum(tensor.size_bytes for tensor in inspection.checkpoint.tensors)
        differs = {"expert_bytes" if found.expert_bytes else "dense_bytes": total - found.total_bytes}
        name, more = next(iter(differs.items()))
        return replace(found, **{name: max(0, getattr(found, name) + more)})
    return found


VOCABULARIES_DIFFER = 128
"""Tokens by which the vocabularies of model and draft may differ in llama.cpp (`common/speculative.cpp`): padding."""


def _draft(inspection: Inspection, need: Demand, weights: str | None, asked: Service) -> Draft:
    """A model that guesses the next tokens of another.

    Raises:
        ConfigError: when it is not described, or has another vocabulary.
    """
    architecture = _described(inspection)
    found = demand(architecture)
    if abs(found.vocab_size - need.vocab_size) > VOCABULARIES_DIFFER:
        read = f"a draft model with {found.vocab_size:,} tokens for a model with {need.vocab_size:,}"
        raise ConfigError(read, "the vocabulary of the model", "name a smaller model of its family")
    if found.total >= need.total:
        read = f"a draft model of {found.total:,} parameters for one of {need.total:,}"
        raise ConfigError(read, "a smaller one", "name a smaller model of its family")
    return Draft(inspection.source, found, _stored(inspection, architecture, weights, asked))


def _described(inspection: Inspection) -> Architecture:
    if inspection.architecture is None:
        read = f"{inspection.source} has no description: what it keeps and computes is unknown"
        raise ConfigError(read, "a model of a known family", "name its config.json, or see `weigh inspect`")
    return inspection.architecture


def _recipe(inspection: Inspection, weights: str | None) -> Recipe:
    return recipes.find(ENCODINGS.get(weights or "", weights) or stored_recipe(inspection))


def _as_stored(stored: StoredWeights, recipe: Recipe, asked: Service) -> StoredWeights:
    """The weights as the engine's files hold them: llama.cpp keeps norms and biases of 16-bit models in fp32."""
    if asked.runtime.splits_layers and recipe.name in ("fp16", "bf16"):
        return replace(stored, other_bytes=2 * stored.other_bytes)
    return stored


def stored_recipe(inspection: Inspection) -> str:
    """The recipe of a file's weights: that of most of its elements; of a configuration alone what it says, or bf16."""
    if inspection.stored is None or not inspection.stored.by_encoding:
        return _packed_recipe(inspection) or "bf16"
    if packed := _packed_recipe(inspection):
        return packed
    most = max(inspection.stored.by_encoding.items(), key=lambda item: item[1])[0]
    return most if most in recipes.RECIPES else "bf16"


def _packed_recipe(inspection: Inspection) -> str | None:
    """The recipe that a configuration says its weights were packed in; None when it says nothing.

    Raises:
        ConfigError: when it is none that is known.
    """
    packed = (inspection.checkpoint.config or {}).get("quantization_config")
    if not isinstance(packed, Mapping):
        return None
    method, bits, group = (packed.get(key) for key in ("quant_method", "bits", "group_size"))
    algorithm = str(packed.get("quant_algo", "")).lower()
    groups = packed.get("config_groups")
    if isinstance(groups, Mapping) and groups:
        first = next(iter(groups.values()))
        weights = first.get("weights") if isinstance(first, Mapping) else None
        if isinstance(weights, Mapping):
            bits, group = weights.get("num_bits"), weights.get("group_size")
            algorithm = f"{weights.get('type')}{bits}"
    found = {
        "fp8": "fp8", "mxfp4": "mxfp4", "fbgemm_fp8": "fp8", "bitnet": None,
        "awq": "awq-int4-g128" if (bits, group) == (4, 128) else None,
        "gptq": "gptq-int4-g128" if (bits, group) == (4, 128) else None,
        "bitsandbytes": "nf4" if packed.get("load_in_4bit") else "int8" if packed.get("load_in_8bit") else None,
        "modelopt": {"fp8": "fp8", "nvfp4": "nvfp4"}.get(algorithm),
        "compressed-tensors": {"int8": "w8a8", "float8": "fp8", "float4": "nvfp4",
                               "int4": "gptq-int4-g128" if group == 128 else None}.get(algorithm),
    }.get(str(method))  # fmt: skip
    if found is None:
        said = ", ".join(f"{key} {value}" for key, value in (("bits", bits), ("groups of", group)) if value is not None)
        read = f"{inspection.source} is packed by {method}{f' ({said})' if said else ''}"
        raise ConfigError(read, "a way of packing whose size is known", "name one with --weights")
    return found


def _runtime(inspection: Inspection, kind: str, device: Device) -> str:
    if inspection.format == "gguf" or kind == "gguf" or speed.device_class(device) in ("soc", "cpu"):
        return "llama.cpp"
    return "vllm"


def _alternatives(plan: Plan, need: Demand, beside: Beside, host: Host) -> Iterable[Alternative]:
    """The same in smaller encodings, and on twice the devices; of the machine that was measured there is one."""
    architecture = plan.inspection.architecture
    assert architecture is not None
    names = SMALLER if plan.service.runtime.splits_layers else SMALLER_SERVED
    for name in names:
        try:
            recipe = recipes.find(name)
            stored = _as_stored(stored_weights(architecture, recipe), recipe, plan.service)
        except WeighbridgeError:
            continue
        if stored.total_bytes < plan.weights.total_bytes:
            other = _plan(plan.inspection, need, stored, plan.machine, plan.service, beside, host)
            yield Alternative(f"weights in {name}", other)
    built, by_layers = plan.machine, plan.service.runtime.splits_layers
    if built.device.measured or built.device.kind not in ("gpu", "accelerator") or host != Host():
        return
    try:
        twice = machine(built.device, 2 * built.devices, layers_split=by_layers, data_parallel=built.data_parallel,
                        pipeline_parallel=None if by_layers else built.pipeline_parallel,
                        expert_parallel=built.expert_parallel)  # fmt: skip
        _check(need, twice, plan.service, plan.weights.recipe, host)
    except WeighbridgeError:  # a layout that the model or the engine does not allow
        return
    other = _plan(plan.inspection, need, plan.weights, twice, plan.service, beside, host)
    yield Alternative(f"{twice.devices} devices", other)
