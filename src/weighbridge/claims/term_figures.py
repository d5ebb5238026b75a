"""The numbers in the examples of the glossary, each from the engine that answers the same question elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from weighbridge.claims.computed import (
    FINE_TUNING_TOKENS,
    cache_of_token,
    layer,
    planned,
    ratio,
    share,
    specified,
    stated_tokens,
    states,
    stored,
    tokens,
    total,
    trained,
    weighed,
)
from weighbridge.claims.entry import Compute
from weighbridge.claims.figure import Figure, Figures, count
from weighbridge.claims.setting import settings_of
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.catalogue import find_device
from weighbridge.inspection import inspect
from weighbridge.layer import count_layer
from weighbridge.model.catalogue import find_model
from weighbridge.model.recipes import RECIPES
from weighbridge.predict.bill import over
from weighbridge.predict.carbon import ANYWHERE, facility_kwh
from weighbridge.predict.disputed import find_dispute
from weighbridge.predict.scaling_laws.hyperparameters import learning_rate
from weighbridge.predict.scaling_laws.laws import DEFAULT
from weighbridge.predict.scaling_laws.optimum import optimum, predicted_loss
from weighbridge.predict.training.memory import checkpoint_bytes

J_PER_KWH = 3.6e6
USUAL_SETTINGS = ("learning_rate", "batch_size", "weight_decay", "dropout", "temperature", "top_p")
"""What is set for training and use, in an example."""
MISTRAL_WINDOW = 4096
"""Tokens that a layer of Mistral 7B 0.1 attends to; source: Jiang et al. 2023, table 1."""


def _parameter() -> Figures:
    return {"total": total("llama-2-70b")}


def _weight() -> Figures:
    return {"weights": count("weights of linear:100x50", count_layer("linear:100x50").without_bias)}


def _bias() -> Figures:
    gpt, llama = weighed("gpt-2").parameters, weighed("llama-2-70b").parameters
    return {
        "biases": count("biases of GPT-2 small", gpt.biases),
        "share": share("of its parameters", gpt.biases, gpt.total),
        "none": count("biases of Llama 2 70B", llama.biases, ""),
    }


def _tensor() -> Figures:
    largest = max(weighed("llama-2-70b").tensors, key=lambda tensor: tensor.elements)
    return {"elements": count(f"elements of {largest.name}", largest.elements, "elements")}


def _neural_network() -> Figures:
    return {"neuron": layer("neuron:3"), "mlp": layer("mlp:768:3072:bias")}


def _activation_function() -> Figures:
    return {"relu": layer("relu"), "prelu": layer("prelu:64")}


def _attention() -> Figures:
    return {"parameters": layer("attention:768:12")}


def _self_attention() -> Figures:
    near, far = (inspect(find_model("llama-2-70b"), context_tokens=before).flops_per_token for before in (0, 4096))
    assert near is not None and far is not None
    return {"start": count("FLOPs of the first token", near, "FLOPs"),
            "far": count("FLOPs of a token after 4,096 others", far, "FLOPs")}  # fmt: skip


def _transformer() -> Figures:
    found = weighed("llama-2-70b").parameters
    parts = {name: found.by_component[name] for name in ("attention", "mlp")}
    parts["rest"] = found.total - sum(parts.values())
    return {name: share(f"{name} of Llama 2 70B", part, found.total) for name, part in parts.items()}


def _recurrent_network() -> Figures:
    return {"lstm": layer("lstm:128:256")}


def _embedding() -> Figures:
    found = weighed("llama-3.1-8b").parameters
    return {"embedding": count("token table of Llama 3.1 8B", found.embedding),
            "share": share("of its parameters", found.embedding, found.total),
            "total": total("llama-3.1-8b")}  # fmt: skip


def _batch_normalization() -> Figures:
    found = count_layer("batchnorm:64")
    return {"parameters": layer("batchnorm:64"), "buffers": count("its buffers", found.buffers, "numbers")}


def _training_data() -> Figures:
    seen = stated_tokens("llama-2-70b")
    return {"tokens": seen, "ratio": ratio("tokens a parameter", seen.amount, total("llama-2-70b").amount, "tokens")}


def _context_window() -> Figures:
    found = {name: weighed(name).longest_context for name in ("gpt-3", "llama-3.1-8b")}
    return {short: count(f"positions of {find_model(name).title}", found[name] or 0, "tokens")
            for short, name in (("gpt3", "gpt-3"), ("llama", "llama-3.1-8b"))}  # fmt: skip


def _kv_cache() -> Figures:
    window = weighed("llama-2-70b").longest_context or 0
    held = inspect(find_model("llama-2-70b"), context_tokens=window).state_json()["bytes_at_context"]["bf16"]
    return {"token": cache_of_token("llama-2-70b"), "context": count("cache of a full context", held, "B"),
            "window": count("context of Llama 2 70B", window, "tokens")}  # fmt: skip


def _active(name: str) -> Figures:
    found = weighed(name).parameters
    return {"total": total(name),
            "active": count(f"active parameters of {find_model(name).title}", found.active_per_token),
            "share": share("active of all", found.active_per_token, found.total)}  # fmt: skip


def _dense_model() -> Figures:
    return {"share": _active("llama-2-70b")["share"]}


def _sparse_model() -> Figures:
    return {"share": _active("deepseek-v3")["share"]}


def _mixture_of_experts() -> Figures:
    return _active("mixtral-8x7b")


def _forward(name: str) -> Figure:
    return count(f"FLOPs of a token of {find_model(name).title}", weighed(name).flops_per_token or 0, "FLOPs")


def _forward_pass() -> Figures:
    flops = _forward("llama-2-70b")
    return {"flops": flops, "each": ratio("FLOPs a parameter", flops.amount, total("llama-2-70b").amount, "")}


def _backpropagation() -> Figures:
    run = trained("llama-2-7b", FINE_TUNING_TOKENS)
    forward = sum(part.forward for part in run.compute.parts)
    train = Estimate.exact(run.compute.model_flops // run.compute.tokens, "FLOPs")
    each = Estimate.exact(forward // run.compute.tokens, "FLOPs")
    return {
        "train": Figure("FLOPs of a token in training", train),
        "ratio": ratio("over the forward pass", train, each),
    }


def _gradient() -> Figures:
    return {"bytes": Figure("gradients of Llama 2 7B", states().memory.gradients_bytes)}


def _gradient_descent() -> Figures:
    run = trained("llama-2-7b", tokens("llama-2-7b"), 64).run
    batch = run.global_batch * run.sequence_tokens
    return {"batch": count("tokens of a step, as assumed", batch, "tokens"),
            "steps": count("steps", math.ceil(tokens("llama-2-7b") / batch), "steps"),
            "tokens": stated_tokens("llama-2-7b")}  # fmt: skip


def _learning_rate() -> Figures:
    run = trained("llama-2-7b", tokens("llama-2-7b"), 64)
    assert run.flops.value is not None
    return {"flops": Figure("FLOPs of its training", run.flops),
            "rate": Figure("peak learning rate", learning_rate(run.flops.value))}  # fmt: skip


def _optimizer() -> Figures:
    return {"bytes": Figure("numbers of AdamW for Llama 2 7B", states().memory.optimizer_bytes)}


def _loss() -> Figure:
    found = predicted_loss(DEFAULT, weighed("llama-2-70b").parameters.total, tokens("llama-2-70b"))
    return Figure("predicted loss of Llama 2 70B", found)


def _loss_function() -> Figures:
    return {"loss": _loss()}


def _perplexity() -> Figures:
    found = _loss().amount
    assert found.value is not None and found.low is not None and found.high is not None
    value, low, high = (math.exp(end) for end in (found.value, found.low, found.high))
    return {"loss": _loss(), "perplexity": Figure("exp(loss)", Estimate(value, low, high, "", found.basis, found.note))}


def _hyperparameters() -> Figures:
    found = settings_of({**find_model("gpt-2").config, **dict.fromkeys(USUAL_SETTINGS, 1)})
    return {
        **{name: count(f"settings of {kind}", len(found.of(kind)), "") for name, kind in
           (("architecture", "architecture"), ("training", "training"), ("decoding", "inference"))},
        "difference": count("parameters that they change", found.parameters - found.parameters_without,
                            "parameters fewer"),
    }  # fmt: skip


def _pre_training() -> Figures:
    run = trained("llama-2-7b", tokens("llama-2-7b"), 64)
    return {"tokens": stated_tokens("llama-2-7b"), "flops": Figure("FLOPs of its training", run.flops),
            "hours": Figure("hours of one H100", run.hours.device_hours)}  # fmt: skip


def _method(name: str) -> Figures:
    run = trained("llama-2-7b", FINE_TUNING_TOKENS, method=name)
    return {"trained": count(f"trained by {name}", run.trainable_parameters),
            "share": share("of the model", run.trainable_parameters, run.parameters)}  # fmt: skip


def _fine_tuning() -> Figures:
    full, lora = (trained("llama-2-7b", FINE_TUNING_TOKENS, method=name) for name in ("full", "lora"))
    return {name: count(f"trained by {name}", run.trainable_parameters)
            for name, run in (("full", full), ("lora", lora))}  # fmt: skip


def _transfer_learning() -> Figures:
    run = trained("bert-base", FINE_TUNING_TOKENS, method="freeze", layers=2)
    frozen = run.parameters - run.trainable_parameters
    return {"frozen": count("frozen parameters", frozen), "share": share("of BERT base", frozen, run.parameters)}


def _adapter() -> Figures:
    return _method("lora")


def _lora() -> Figures:
    return {"trained": _method("lora")["trained"]}


def _dora() -> Figures:
    dora, lora = (trained("llama-2-7b", FINE_TUNING_TOKENS, method=name).trainable_parameters
                  for name in ("dora", "lora"))  # fmt: skip
    return {"trained": count("trained by dora", dora), "more": count("more than by LoRA", dora - lora, "")}


def _qlora() -> Figures:
    small, large = (trained("llama-2-7b", FINE_TUNING_TOKENS, method=name) for name in ("qlora", "lora"))
    return {"small": Figure("weights under QLoRA", small.memory.weights_bytes),
            "large": Figure("weights under LoRA", large.memory.weights_bytes)}  # fmt: skip


def _prompt_tuning() -> Figures:
    return {"trained": _method("prompt")["trained"]}


def _parameter_efficiency() -> Figures:
    return {"share": _method("lora")["share"]}


def _distillation() -> Figures:
    student, teacher = total("distilbert"), total("bert-base")
    return {"student": student, "teacher": teacher,
            "share": ratio("student over teacher", student.amount, teacher.amount, "share")}  # fmt: skip


def _quantization() -> Figures:
    return {short: stored("llama-3.1-8b", recipe)
            for short, recipe in (("bf16", "bf16"), ("int8", "q8_0"), ("int4", "q4_k_m"))}  # fmt: skip


def _int8() -> Figures:
    found = {name: stored("llama-3.1-8b", name) for name in ("int8", "bf16")}
    return {**found, "ratio": ratio("int8 over bf16", found["int8"].amount, found["bf16"].amount, "share")}


def _bits(recipe: str) -> Figures:
    architecture = weighed("llama-3.1-8b").architecture
    assert architecture is not None
    row = next(row for row in RECIPES[recipe].pack(architecture).assignments if row.group.weight.role == "mlp_up")
    bits = (
        8 * row.size_bytes / (row.group.weight.elements * (row.group.count if row.layers is None else len(row.layers)))
    )
    return {"bits": Figure("bits of a weight", Estimate(bits, bits, bits, "bits", Basis.EXACT)),
            "bytes": stored("llama-3.1-8b", recipe)}  # fmt: skip


def _bits_alone(recipe: str) -> Figures:
    return {"bits": _bits(recipe)["bits"]}


def _fp8() -> Figures:
    device = find_device("h100-sxm")
    fast, slow = (device.flops_per_s[name] for name in ("fp8", "bf16"))
    return {
        "bytes": stored("llama-3.1-8b", "fp8"),
        "ratio": specified("fp8 over bf16", fast / slow, "times", device.sources.get("flops_per_s", device.source)),
    }


def _mixed_precision() -> Figures:
    held = Estimate.exact(states().memory.states_bytes, "B")
    return {"each": ratio("bytes a parameter", held, total("llama-2-7b").amount, ""),
            "states": Figure("weights, gradients and numbers of AdamW", held)}  # fmt: skip


def _gradient_checkpointing() -> Figures:
    return {name: Figure(f"activations, checkpointing {name}", states(name).memory.activation_bytes)
            for name in ("none", "full")}  # fmt: skip


def _checkpoint() -> Figures:
    run = states()
    return {"weights": stored("llama-2-7b", "bf16"),
            "whole": count("checkpoint to go on from", checkpoint_bytes(run.held, run.run), "B")}  # fmt: skip


def _zero() -> Figures:
    found = {name: states(zero=stage, devices=8).memory.states_bytes for name, stage in (("sharded", 3), ("whole", 0))}
    return {name: count(f"states of a device, {name}", size, "B") for name, size in found.items()}


def _tensor_parallelism() -> Figures:
    plan = planned("llama-2-70b", devices=2, weights="fp16")
    whole = plan.memory.weights_bytes
    return {"share": Figure("weights of a device", whole.times(1 / plan.machine.tensor_parallel)),
            "whole": Figure("weights of all", whole)}  # fmt: skip


def _pipeline_parallelism() -> Figures:
    layers = len(weighed("llama-2-70b").parameters.by_layer)
    return {"layers": count("layers of Llama 2 70B", layers, "layers"), "each": count("of a device", layers // 4, "")}


def _expert_parallelism() -> Figures:
    return {"each": count("experts of a device", weighed("mixtral-8x7b").parameters.by_component["experts"] // 8)}


def _gqa() -> Figures:
    plain = inspect(find_model("llama-2-70b"), settings={"num_key_value_heads": 64})
    gqa, mha = cache_of_token("llama-2-70b"), cache_of_token("llama-2-70b", plain)
    return {"gqa": gqa, "mha": replace(mha, label="with 64 KV heads"),
            "ratio": ratio("64 KV heads over 8", mha.amount, gqa.amount)}  # fmt: skip


def _mqa() -> Figures:
    one = inspect(find_model("llama-2-70b"), settings={"num_key_value_heads": 1})
    found = cache_of_token("llama-2-70b", one)
    return {"mqa": replace(found, label="with one KV head"), "gqa": cache_of_token("llama-2-70b")}


def _mla() -> Figures:
    return {"size": total("deepseek-v3"), "mla": cache_of_token("deepseek-v3"), "gqa": cache_of_token("llama-2-70b")}


def _sliding_window() -> Figures:
    found: dict[str, Figure] = {}
    for name, settings in (("window", {"sliding_window": MISTRAL_WINDOW}), ("whole", {})):
        model = inspect(find_model("mistral-7b"), context_tokens=8 * MISTRAL_WINDOW, settings=settings)
        found[name] = count(f"cache, {name}", model.state_json()["bytes_at_context"]["bf16"], "B")
    return {**found, "tokens": count("window", MISTRAL_WINDOW, "tokens"),
            "text": count("text", 8 * MISTRAL_WINDOW, "tokens")}  # fmt: skip


def _flash_attention() -> Figures:
    return {name: Figure(f"activations, {name} attention", states(attention=name).memory.activation_bytes)
            for name in ("flash", "eager")}  # fmt: skip


def _flops() -> Figures:
    used = weighed("llama-2-70b").parameters.active_per_token * tokens("llama-2-70b")
    return {"tokens": stated_tokens("llama-2-70b"), "token": _forward("llama-2-70b"),
            "training": Figure("6 x parameters x tokens", Estimate.exact(6 * used, "FLOP"))}  # fmt: skip


def _roofline() -> Figures:
    device, model = find_device("h100-sxm"), weighed("llama-3.1-8b")
    peak, moved = device.flops_per_s["bf16"], device.memory_bytes_per_s
    assert moved is not None
    work = Estimate.exact(model.flops_per_token or 0, "FLOP")
    ridge = specified("FLOP/s over bytes/s", peak / moved, "", device.sources.get("flops_per_s", device.source))
    return {"ridge": ridge,
            "work": ratio("FLOPs a byte of weights", work, stored("llama-3.1-8b", "bf16").amount, "")}  # fmt: skip


def _mfu() -> Figures:
    return {"mfu": Figure("MFU of the run", trained("llama-2-7b", tokens("llama-2-7b"), 64).hours.mfu)}


def _inference() -> Figures:
    return {"flops": _forward("llama-3.1-8b")}


def _latency() -> Figures:
    plan = planned("llama-3.1-8b")
    return {"request": Figure("a whole request", plan.speed.request_s), "output": _answer()}


def _answer() -> Figure:
    return count("tokens of the answer", planned("llama-3.1-8b").service.output_tokens, "tokens")


def _ttft() -> Figures:
    plan = planned("llama-3.1-8b")
    return {"ttft": Figure("time to the first token", plan.speed.ttft_s),
            "prompt": count("tokens of the prompt", plan.service.prompt_tokens, "tokens")}  # fmt: skip


def _tpot() -> Figures:
    return {"tpot": Figure("time of a further token", planned("llama-3.1-8b").speed.tpot_s)}


def _pue() -> Figures:
    used = facility_kwh(Estimate(J_PER_KWH, J_PER_KWH, J_PER_KWH, "J", Basis.EXACT), ANYWHERE)
    return {"pue": Figure("PUE", ANYWHERE.pue), "facility": Figure("energy of the building", used)}


def _energy() -> Figures:
    plan = planned("llama-3.1-8b")
    return {"output": _answer(), "joules": Figure("energy of an answer", plan.joules.times(plan.service.output_tokens))}


def _chinchilla() -> Figures:
    rule, real = optimum("twenty", parameters=70e9).tokens, stated_tokens("llama-2-70b")
    return {"rule": Figure("tokens by the rule", replace(rule, unit="tokens")), "real": real,
            "verdict_ratio": Figure("over the rule", over(real.amount, rule, "times"))}  # fmt: skip


def _emergent_abilities() -> Figures:
    said = find_dispute("emergence").answers
    low, high = min(one.low for one in said if one.low), max(one.high or one.low or 0 for one in said)
    ends = [specified(f"{name} published threshold", end, "parameters", "as published, see `weigh scaling claims`")
            for name, end in (("smallest", low), ("largest", high))]  # fmt: skip
    return {"low": ends[0], "high": ends[1], "ratio": ratio("largest over smallest", ends[1].amount, ends[0].amount)}


FIGURES: Mapping[str, Compute] = {
    "parameter": _parameter, "weight": _weight, "bias": _bias, "tensor": _tensor, "neural-network": _neural_network,
    "activation-function": _activation_function, "attention": _attention, "self-attention": _self_attention,
    "transformer": _transformer, "recurrent-network": _recurrent_network, "embedding": _embedding,
    "batch-normalization": _batch_normalization, "training-data": _training_data, "context-window": _context_window,
    "kv-cache": _kv_cache, "dense-model": _dense_model, "sparse-model": _sparse_model,
    "mixture-of-experts": _mixture_of_experts, "forward-pass": _forward_pass, "backpropagation": _backpropagation,
    "gradient": _gradient, "gradient-descent": _gradient_descent, "learning-rate": _learning_rate,
    "optimizer": _optimizer, "loss-function": _loss_function, "perplexity": _perplexity,
    "hyperparameters": _hyperparameters, "pre-training": _pre_training, "fine-tuning": _fine_tuning,
    "transfer-learning": _transfer_learning, "adapter": _adapter, "lora": _lora, "dora": _dora, "qlora": _qlora,
    "prompt-tuning": _prompt_tuning, "parameter-efficiency": _parameter_efficiency, "distillation": _distillation,
    "quantization": _quantization, "int8-quantization": _int8,
    "gptq": lambda: _bits("gptq-int4-g128"), "awq": lambda: _bits("awq-int4-g128"),
    "k-quants": lambda: _bits("q4_k_m"), "nf4": lambda: _bits_alone("nf4"),
    "mxfp4": lambda: _bits_alone("mxfp4"), "nvfp4": lambda: _bits_alone("nvfp4"), "fp8": _fp8,
    "mixed-precision": _mixed_precision, "gradient-checkpointing": _gradient_checkpointing, "checkpoint": _checkpoint,
    "zero": _zero, "fsdp": _zero, "tensor-parallelism": _tensor_parallelism,
    "pipeline-parallelism": _pipeline_parallelism, "expert-parallelism": _expert_parallelism, "gqa": _gqa, "mqa": _mqa,
    "mla": _mla, "sliding-window": _sliding_window, "flash-attention": _flash_attention, "flops": _flops,
    "roofline": _roofline, "mfu": _mfu, "inference": _inference, "latency": _latency, "ttft": _ttft, "tpot": _tpot,
    "pue": _pue, "energy": _energy, "chinchilla-scaling-laws": _chinchilla, "emergent-abilities": _emergent_abilities,
}  # fmt: skip
"""What computes the numbers of each example, by the name of its term."""
