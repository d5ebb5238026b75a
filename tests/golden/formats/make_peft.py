"""How many parameters does PEFT itself train in small adapters of each kind? Writes `peft.json`.

Each adapter is made by PEFT on a small random model, saved with `save_pretrained` and read back with safetensors; what
it trains is `get_nb_trainable_parameters()`. Needs torch, transformers and peft: `python make_peft.py peft.json`.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

KEPT = ("peft_type", "target_modules", "r", "lora_alpha", "modules_to_save", "base_model_name_or_path",
        "fan_in_fan_out", "use_dora", "task_type")  # fmt: skip


def main(target: str) -> None:
    """Makes every adapter and writes what was found."""
    peft: Any = importlib.import_module("peft")
    transformers: Any = importlib.import_module("transformers")
    safetensors: Any = importlib.import_module("safetensors")

    def llama() -> Any:
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(
            vocab_size=100, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, tie_word_embeddings=False))  # fmt: skip

    def gpt2() -> Any:
        return transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=100, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
        )

    text = {"task_type": "CAUSAL_LM"}
    kinds = {
        "lora": peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], **text),
        "dora": peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], use_dora=True, **text),
        "all": peft.LoraConfig(r=4, target_modules="all-linear", **text),
        "saved": peft.LoraConfig(r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], **text),
        "emb": peft.LoraConfig(r=4, target_modules=["embed_tokens"], **text),
        "ia3": peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"], **text),
        "vera": peft.VeraConfig(r=4, target_modules=["q_proj", "o_proj"], **text),
        "prompt": peft.PromptTuningConfig(num_virtual_tokens=5, **text),
        "prefix": peft.PrefixTuningConfig(num_virtual_tokens=5, **text),
        "loha": peft.LoHaConfig(r=4, target_modules=["q_proj"], **text),
        "gpt2lora": peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, **text),
    }
    adapters = {}
    for name, settings in kinds.items():
        base = "gpt2" if name.startswith("gpt2") else "llama"
        model = peft.get_peft_model(gpt2() if base == "gpt2" else llama(), settings)
        with tempfile.TemporaryDirectory() as scratch:
            model.save_pretrained(scratch)
            config = json.loads((Path(scratch) / "adapter_config.json").read_text())
            with safetensors.safe_open(f"{scratch}/adapter_model.safetensors", "pt") as file:
                shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        config = {key: value for key, value in config.items() if key in KEPT}
        if isinstance(config.get("target_modules"), list):
            config["target_modules"].sort()
        trainable = model.get_nb_trainable_parameters()[0]
        adapters[name] = {"trainable": trainable, "base": base, "config": config, "tensors": shapes}
    bases = {"llama": llama().config.to_dict(), "gpt2": gpt2().config.to_dict()}
    source = f"peft {peft.__version__}, transformers {transformers.__version__}: make_peft.py"
    document = {"source": source, "adapters": adapters, "bases": bases}
    Path(target).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
