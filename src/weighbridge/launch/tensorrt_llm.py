"""Which line makes TensorRT-LLM do what was planned?

`trtllm-serve` is told most with options; the encoding of the cache, copies of the attention, adapters and a draft model
only in a file that `--extra_llm_api_options` names. Attention is copied to all tensor parallel ranks or to none
(`enable_attention_dp`). `--max_batch_size` is that of one rank then. `--free_gpu_memory_fraction` is a share of what
the weights leave free, for the cache.

Source: NVIDIA/TensorRT-LLM `tensorrt_llm/commands/serve.py` at `VERSION`; the keys of the file are those of
`tensorrt_llm/llmapi/llm_args.py` (00043967) and of its pages on LoRA and speculative decoding.
"""

from __future__ import annotations

from typing import Any

from weighbridge.errors import UnitError
from weighbridge.launch.line import Launch, running_each, yaml
from weighbridge.launch.served import (
    MANY_DEVICES,
    SEVERAL_COMPUTERS,
    adapters,
    cache_dtype,
    check_device,
    draft_folder,
    is_mixture,
    layout_words,
)
from weighbridge.launch.sources import GUESSED_TOKENS, GUESSES, folder
from weighbridge.planning import Plan

RUNTIME = "tensorrt-llm"
VERSION = "NVIDIA/TensorRT-LLM tensorrt_llm/commands/serve.py 00209af149e7774406881a37283dce303571eb11"
CACHES = {"bf16": "auto", "fp16": "auto", "fp8": "fp8", "nvfp4": "nvfp4"}
FILE = "trtllm-options.yaml"


def launch(plan: Plan) -> Launch:
    """The line of a plan, with its file where one is needed.

    Raises:
        WeighbridgeError: for what the engine cannot do or load.
    """
    notes = check_device(plan, "tensorrt-llm")
    service, built = plan.service, plan.machine
    copies = built.data_parallel
    if copies > 1 and not (is_mixture(plan) and built.tensor_parallel == 1):
        read = f"{layout_words(plan)} under trtllm-serve"
        raise UnitError(read, "the attention of a mixture copied to each device, or no copies",
                        "start a server for each copy of the model, or plan with --tp")  # fmt: skip
    source = folder(plan.inspection, plan.weights.recipe, "tensorrt-llm", {})
    notes += [source.note] if source.note else []
    options: dict[str, Any] = {"dtype": source.dtype} if source.dtype else {}
    arguments = [source.name]
    arguments += ["--revision", source.revision] if source.revision else []
    tokens = max(service.runtime.batched_tokens, running_each(plan))
    arguments += ["--max_seq_len", str(service.context_tokens), "--max_batch_size", str(running_each(plan)),
                  "--max_num_tokens", str(tokens), "--enable_chunked_prefill",
                  "--free_gpu_memory_fraction", str(service.reserves),
                  "--tensor_parallel_size", str(built.tensor_parallel * copies)]  # fmt: skip
    notes.append("the share of memory is of what the weights leave free: the engine takes less than the plan reserves")
    if built.pipeline_parallel > 1:
        arguments += ["--pipeline_parallel_size", str(built.pipeline_parallel)]
    if built.expert_parallel > 1:
        arguments += ["--moe_expert_parallel_size", str(built.expert_parallel)]
    if built.devices > MANY_DEVICES:
        notes.append(SEVERAL_COMPUTERS)
    if (dtype := cache_dtype(plan, "tensorrt-llm", CACHES)) != "auto":
        options["kv_cache_config"] = {"dtype": dtype, "free_gpu_memory_fraction": service.reserves}
    if copies > 1:
        options["enable_attention_dp"] = True
    if found := adapters(plan):
        options["lora_config"] = {
            "lora_dir": [one.folder for one in found],
            "max_lora_rank": max(one.rank for one in found),
            "max_loras": len(found),
            "max_cpu_loras": len(found),
        }
    if plan.draft is not None:
        guesser = draft_folder(plan, "tensorrt-llm", {})
        notes += [guesser.note] if guesser.note else []
        notes.append(GUESSES)
        options["disable_overlap_scheduler"] = True
        options["speculative_config"] = {"decoding_type": "Draft_Target", "max_draft_len": GUESSED_TOKENS,
                                         "speculative_model": guesser.name}  # fmt: skip
    if options:
        arguments += ["--extra_llm_api_options", FILE]
    return Launch(program="trtllm-serve", arguments=tuple(arguments), version=VERSION, notes=tuple(notes),
                  files={FILE: yaml(options)} if options else {})  # fmt: skip
