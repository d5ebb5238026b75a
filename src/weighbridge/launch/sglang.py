"""Which line makes SGLang do what was planned?

Layout: copies of a dense model are `--data-parallel-size` groups of `--tensor-parallel-size` devices. Of a mixture the
experts are shared by all devices, and only the attention is copied: then the tensor parallel size is that of all of
them and `--enable-dp-attention` divides the attention. `--max-running-requests` is that of all copies together, and so
is `--chunked-prefill-size` where the attention is divided (`_handle_data_parallelism`): each copy has its part of it.
`--mem-fraction-static` is the share of a device for weights and cache.

Source: sgl-project/sglang `python/sglang/srt/server_args.py` at `VERSION`, and its page
`docs/advanced_features/server_arguments.md`.
"""

from __future__ import annotations

from weighbridge.launch.line import Launch, running
from weighbridge.launch.served import (
    MANY_DEVICES,
    SEVERAL_COMPUTERS,
    adapters,
    cache_dtype,
    check_device,
    draft_folder,
    is_mixture,
)
from weighbridge.launch.sources import GUESSED_TOKENS, GUESSES, Source, folder, gguf_file, is_gguf, local_gguf
from weighbridge.planning import Plan

RUNTIME = "sglang"
VERSION = "sgl-project/sglang python/sglang/srt/server_args.py 001067fffe33427bee0ed2f007fb7551a1d76b44"
CACHES = {"bf16": "auto", "fp16": "auto", "fp8": "fp8_e4m3", "nvfp4": "nvfp4"}
MAKES = {"fp8": "fp8", "nf4": "bitsandbytes"}
LOAD_FORMATS = {"bitsandbytes": "bitsandbytes"}
"""Ways to load that a way to quantize needs beside it."""


def launch(plan: Plan) -> Launch:
    """The line of a plan.

    Raises:
        WeighbridgeError: for what the engine cannot do or load.
    """
    notes = check_device(plan, "sglang")
    service, built = plan.service, plan.machine
    arguments = ["-m", "sglang.launch_server"]
    if is_gguf(plan.weights.recipe):
        source = Source(local_gguf(gguf_file(plan.inspection, plan.weights.recipe), notes))
        arguments += ["--model-path", source.name, "--load-format", "gguf", "--quantization", "gguf"]
    else:
        source = folder(plan.inspection, plan.weights.recipe, "sglang", MAKES)
        load = LOAD_FORMATS.get(source.quantization or "")
        arguments += ["--model-path", source.name]
        for option, value in (("--revision", source.revision), ("--dtype", source.dtype),
                              ("--quantization", source.quantization), ("--load-format", load)):  # fmt: skip
            arguments += [option, value] if value else []
    notes += [source.note] if source.note else []
    shares_experts = is_mixture(plan) and built.data_parallel > 1
    shared = built.data_parallel if shares_experts else 1
    arguments += ["--context-length", str(service.context_tokens), "--max-running-requests", str(running(plan)),
                  "--chunked-prefill-size", str(service.runtime.batched_tokens * shared),
                  "--mem-fraction-static", str(service.reserves),
                  "--kv-cache-dtype", cache_dtype(plan, "sglang", CACHES)]  # fmt: skip
    arguments += ["--tensor-parallel-size", str(built.tensor_parallel * shared)]
    if built.pipeline_parallel > 1:
        arguments += ["--pipeline-parallel-size", str(built.pipeline_parallel)]
    if built.data_parallel > 1:
        arguments += ["--data-parallel-size", str(built.data_parallel)]
    if shares_experts:
        arguments.append("--enable-dp-attention")
        notes.append("sglang copies the attention of some families only, DeepSeek and Qwen mixtures among them")
    if built.expert_parallel > 1:
        arguments += ["--expert-parallel-size", str(built.expert_parallel)]
    if built.devices > MANY_DEVICES:
        notes.append(SEVERAL_COMPUTERS)
    if found := adapters(plan):
        arguments += ["--enable-lora", "--max-loras-per-batch", str(len(found) + 1),
                      "--max-lora-rank", str(max(one.rank for one in found)),
                      "--lora-paths", *(f"{one.name}={one.folder}" for one in found)]  # fmt: skip
    if plan.draft is not None:
        guesser = draft_folder(plan, "sglang", MAKES)
        notes += [guesser.note] if guesser.note else []
        notes.append(GUESSES)
        arguments += ["--speculative-algorithm", "STANDALONE", "--speculative-draft-model-path", guesser.name,
                      "--speculative-num-steps", str(GUESSED_TOKENS), "--speculative-eagle-topk", "1",
                      "--speculative-num-draft-tokens", str(GUESSED_TOKENS + 1)]  # fmt: skip
        if guesser.quantization:
            arguments += ["--speculative-draft-model-quantization", guesser.quantization]
    return Launch(program="python3", arguments=tuple(arguments), version=VERSION, notes=tuple(notes))
