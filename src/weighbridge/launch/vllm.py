"""Which line makes vLLM do what was planned?

Layout: devices = tensor x pipeline x data parallel size. The experts of a mixture are shared by all devices of a layer:
with `--enable-expert-parallel` each holds whole ones, in as many groups as these devices; without it each holds a part
of every expert. `--max-num-seqs` is that of one copy of the attention. `auto` as the type of the cache is that of the
model.

Source: vllm-project/vllm `vllm/engine/arg_utils.py` and `vllm/config/cache.py` at `VERSION`,
`vllm/entrypoints/openai/cli_args.py` (`--lora-modules`), `vllm/config/lora.py` (the ranks), and the pages of
`docs/features/quantization`: what it makes of plain weights when it loads them, and that GGUF needs the package
vllm-gguf-plugin.
"""

from __future__ import annotations

import json

from weighbridge.errors import UnitError
from weighbridge.launch.line import Launch, running_each
from weighbridge.launch.served import (
    MANY_DEVICES,
    SEVERAL_COMPUTERS,
    LowRank,
    adapters,
    cache_dtype,
    check_device,
    draft_folder,
    layout_words,
)
from weighbridge.launch.sources import GUESSED_TOKENS, GUESSES, Source, folder, gguf_file, is_gguf, local_gguf
from weighbridge.planning import Plan

RUNTIME = "vllm"
VERSION = "vllm-project/vllm vllm/engine/arg_utils.py 002f10e0cfa1373a19a0d2756598a34b700d20e5"
CACHES = {"bf16": "auto", "fp16": "auto", "fp8": "fp8", "int8": "int8_per_token_head", "nvfp4": "nvfp4"}
MAKES = {"fp8": "fp8", "nf4": "bitsandbytes"}
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` can be."""


def launch(plan: Plan) -> Launch:
    """The line of a plan.

    Raises:
        WeighbridgeError: for what the engine cannot do or load.
    """
    notes = check_device(plan, "vllm")
    service, built = plan.service, plan.machine
    if is_gguf(plan.weights.recipe):
        source = Source(local_gguf(gguf_file(plan.inspection, plan.weights.recipe), notes))
        notes.append("vllm reads GGUF with the package vllm-gguf-plugin only, and is best given the tokenizer of the "
                     "model that the file was made of, with --tokenizer")  # fmt: skip
    else:
        source = folder(plan.inspection, plan.weights.recipe, "vllm", MAKES)
    notes += [source.note] if source.note else []
    arguments = ["serve", source.name]
    for option, value in (("--revision", source.revision), ("--dtype", source.dtype),
                          ("--quantization", source.quantization)):  # fmt: skip
        arguments += [option, value] if value else []
    arguments += ["--max-model-len", str(service.context_tokens), "--max-num-seqs", str(running_each(plan)),
                  "--max-num-batched-tokens", str(max(service.runtime.batched_tokens, running_each(plan))),
                  "--enable-chunked-prefill", "--gpu-memory-utilization", str(service.reserves),
                  "--kv-cache-dtype", cache_dtype(plan, "vllm", CACHES)]  # fmt: skip
    if service.key_encoding.name == "int8":
        notes.append("vllm keeps a scale for each token and head beside a cache in int8, which the plan does not count")
    arguments += ["--tensor-parallel-size", str(built.tensor_parallel)]
    if built.pipeline_parallel > 1:
        arguments += ["--pipeline-parallel-size", str(built.pipeline_parallel)]
    if built.data_parallel > 1:
        arguments += ["--data-parallel-size", str(built.data_parallel)]
    if built.expert_parallel > 1:
        if built.expert_parallel != built.tensor_parallel * built.data_parallel:
            most = built.tensor_parallel * built.data_parallel
            read = f"{layout_words(plan)} under vllm"
            raise UnitError(read, "as many groups of experts as devices hold a layer, or one",
                            f"plan with --ep {most}, or leave it out")  # fmt: skip
        arguments.append("--enable-expert-parallel")
    if built.devices > MANY_DEVICES:
        notes.append(SEVERAL_COMPUTERS)
    if found := adapters(plan):
        arguments += ["--enable-lora", "--max-loras", str(len(found)), "--max-lora-rank", str(_rank(found)),
                      "--lora-modules", *(f"{one.name}={one.folder}" for one in found)]  # fmt: skip
    if plan.draft is not None:
        guesser = draft_folder(plan, "vllm", MAKES)
        notes += [guesser.note] if guesser.note else []
        notes.append(GUESSES)
        settings = {"method": "draft_model", "model": guesser.name, "num_speculative_tokens": GUESSED_TOKENS,
                    "draft_tensor_parallel_size": built.tensor_parallel}  # fmt: skip
        if guesser.quantization:
            settings["quantization"] = guesser.quantization
        arguments += ["--speculative-config", json.dumps(settings)]
    return Launch(program="vllm", arguments=tuple(arguments), version=VERSION, notes=tuple(notes))


def _rank(found: list[LowRank]) -> int:
    """The smallest rank that vLLM can be told and that holds all adapters."""
    largest = max(one.rank for one in found)
    if largest > RANKS[-1]:
        raise UnitError(f"an adapter of rank {largest} under vllm", f"a rank of at most {RANKS[-1]}", "merge it first")
    return next(rank for rank in RANKS if rank >= largest)
