"""FLOPs of training, against published formulas, and what torch counts while models are trained.

`COUNTED` is what `torch.utils.flop_counter.FlopCounterMode` counted forward and backward (torch 2.13, transformers
5.23.0, PEFT 0.21.2, eager attention, which computes the scores of all pairs) on two sequences of 16 tokens, for models
of 3 layers, width 32, 4 heads and 100 tokens.
"""

from __future__ import annotations

from typing import Any

import pytest

from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.predict.counts import count, forward_flops_per_token
from weighbridge.predict.training.compute import Compute, compute
from weighbridge.predict.training.methods import ALL_LINEAR, Method
from weighbridge.predict.training.run import Run


def described(source: str | dict[str, Any]) -> Architecture:
    architecture = inspect(source).architecture
    assert architecture is not None
    return architecture


def step(
    source: str | dict[str, Any], tokens: int = 2048, batch: int = 1, *, causal: bool = True, **run: Any
) -> Compute:
    return compute(described(source), Run(sequence_tokens=tokens, global_batch=batch, **run), causal=causal)


def test_gpt_3_took_3_143e23() -> None:
    """Brown et al. 2020, appendix D: 3.14e23 FLOPs for 300 billion tokens, attention left out."""
    gpt3 = step("gpt-3-175b", 2048, 1536)
    assert 6 * gpt3.parameters * 300 * 10**9 == pytest.approx(3.143e23, rel=0.001)
    six_nd = 6 * 174_604_259_328 * 2048 * 1536
    assert gpt3.parameters == 174_604_259_328
    assert 1.01 < gpt3.model_flops / six_nd < 1.02, "attention is beside it"
    assert gpt3.over(gpt3.tokens * 10) == 10 * gpt3.model_flops


@pytest.mark.parametrize("checkpointing", ["none", "selective", "full"])
def test_megatrons_formula(checkpointing: str) -> None:
    """Narayanan et al. 2021, equation 3; 72 for 96 without a second forward pass. Korthikanti et al. 2022, section 6,
    for the selective one: the scores again.
    """
    batch, s, layers, h, vocab = 4, 2048, 96, 12288, 50257
    gpt3 = step("gpt-3-175b", s, batch, causal=False, checkpointing=checkpointing, attention="eager")
    one = batch * s * layers * h * h
    scores = 4 * batch * s * s * layers * h
    head = 6 * batch * s * h * vocab
    assert gpt3.model_flops == 72 * one + 3 * scores + head
    again = {"none": 0, "selective": scores, "full": 24 * one + scores}[checkpointing]
    assert gpt3.hardware_flops == gpt3.model_flops + again


def test_palms_formula() -> None:
    """Chowdhery et al. 2022, appendix B: 6N + 12*L*H*Q*T; with N = 540.35e9, 118 layers of 48 heads of 256 numbers and
    2048 tokens, 238,300 tokens/s on 6144 chips of 275 TFLOP/s are an MFU of 46.2%. A decoder of PaLM's shape.
    """
    palm = {"model_type": "gemma", "hidden_size": 18432, "num_hidden_layers": 118, "num_attention_heads": 48,
            "num_key_value_heads": 1, "head_dim": 256, "intermediate_size": 73728, "vocab_size": 256000,
            "architectures": ["GemmaForCausalLM"]}  # fmt: skip
    found = step(palm, 2048, causal=False)
    norms = count(described(palm)).by_component["norm"]
    assert found.parameters == pytest.approx(540.35e9, rel=0.001)
    assert found.model_flops == 2048 * (6 * (found.parameters - norms) + 12 * 118 * 48 * 256 * 2048)
    assert 238_300 * found.model_flops / 2048 / (6144 * 275e12) == pytest.approx(0.462, abs=0.0005)


def test_flops_of_inference_are_2n_a_token() -> None:
    """All matrices of Llama 2 but the table are multiplied with: 2*(N - table - norms)."""
    found = step("llama-2-7b", 1, attention="eager")
    per_token = forward_flops_per_token(described("llama-2-7b"), 1)
    assert found.forward == per_token
    assert found.forward / (2 * found.parameters) == pytest.approx(0.98, abs=0.005)


def test_lora_is_4nd() -> None:
    """Two thirds of 6ND: frozen weights have no gradient of theirs."""
    full, lora = step("llama-2-70b"), step("llama-2-70b", method=Method(name="lora", rank=8))
    bare_full, bare_lora = full.model_flops - full.attention, lora.model_flops - lora.attention
    assert bare_lora / bare_full == pytest.approx(2 / 3, abs=0.005)
    assert full.attention == lora.attention
    qlora = step("llama-2-70b", method=Method(name="qlora", rank=8))
    assert qlora.model_flops == lora.model_flops


def test_below_the_first_trained_layer_nothing_flows_back() -> None:
    layer = 4 * 4096**2 + 3 * 4096 * 11008
    found = step("llama-2-7b", 16, method=Method(name="freeze", trained_layers=1), attention="eager")
    scores = next(part for part in found.parts if part.path.endswith(".scores"))
    backward = 2 * 2 * 16 * (layer + 32000 * 4096) + 2 * scores.forward // 32
    assert found.backward == backward


def test_a_trained_table_is_below_everything() -> None:
    head = step("llama-2-7b", 16, method=Method(name="freeze"))
    tied = step("gpt-2", 16, method=Method(name="freeze"))
    assert head.backward == 2 * 2 * 16 * 32000 * 4096
    assert tied.backward > tied.forward, "the head is the table, and the table is read first"


def test_a_flash_kernel_computes_the_scores_again() -> None:
    eager, flash = (step("llama-2-7b", attention=kernel) for kernel in ("eager", "flash"))
    forward = sum(part.forward for part in flash.parts if part.path.endswith(".scores"))
    assert eager.again == 0 and flash.again == forward // 2
    assert eager.model_flops == flash.model_flops


def test_only_active_experts_compute() -> None:
    mixtral = step("mixtral-8x7b", 1024, attention="eager")
    assert mixtral.parameters == 12_879_925_248
    assert mixtral.model_flops - mixtral.attention == pytest.approx(6 * mixtral.parameters * mixtral.tokens, rel=0.02)
    every = step("mixtral-8x7b", 1024, method=Method(name="lora", rank=8, targets=("experts_up",)))
    adapters = [part for part in every.parts if ".lora_" in part.path]
    assert sum(part.forward for part in adapters) == 2 * 1024 * 32 * 2 * 8 * (4096 + 14336)


def test_attention_ends_at_its_window() -> None:
    """Mistral 7B v0.1 looks back 4,096 tokens: 32 layers of 32 heads of 128 numbers."""
    mistral = {"model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
               "num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 32000, "sliding_window": 4096,
               "architectures": ["MistralForCausalLM"]}  # fmt: skip
    seen = sum(min(position, 4096) for position in range(1, 8193))
    assert step(mistral, 8192).attention == 3 * 4 * 32 * 32 * 128 * seen
    assert step(mistral, 8192, causal=False).attention == 3 * 4 * 32 * 32 * 128 * 8192 * 4096


def test_a_net_for_pictures_costs_three_forward_passes_but_for_the_first_gradient() -> None:
    """The stem's input is the picture: 64 kernels of 3 x 7 x 7 at 112 x 112 places have no gradient to pass on."""
    resnet = step("resnet-50", 1, 32)
    stem = 32 * 2 * 64 * 3 * 49 * 112 * 112
    assert resnet.model_flops == 3 * resnet.forward - stem
    assert resnet.forward / 32 / 2 == pytest.approx(4.09e9, rel=0.005), "4.09 billion multiplications, torchvision"
    assert any("many positions" in note for note in resnet.notes)
    vit = step("vit-base-patch16-224", 197, 1)
    assert vit.model_flops == pytest.approx(3 * vit.forward, rel=0.01)


@pytest.mark.parametrize("name", ["bert-base", "t5-small", "mamba-2.8b", "jamba-v0.1", "deepseek-v3"])
def test_backward_is_twice_forward_where_all_is_trained(name: str) -> None:
    found = step(name, 256)
    assert found.backward == 2 * found.forward > 0


def test_what_is_left_out_is_said() -> None:
    assert "tower" in step("gemma-3-4b", 64).notes[0]
    assert "further tokens" in step("deepseek-v3", 64).notes[0]
    assert "encoder" in step("t5-small", 64).notes[0]


LLAMA = {"model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3,
         "num_attention_heads": 4, "num_key_value_heads": 2, "architectures": ["LlamaForCausalLM"]}  # fmt: skip
GPT2 = {"model_type": "gpt2", "vocab_size": 100, "n_embd": 32, "n_layer": 3, "n_head": 4,
        "architectures": ["GPT2LMHeadModel"]}  # fmt: skip
COUNTED = [
    (LLAMA, Method(), 2_170_880, 6_512_640),
    (GPT2, Method(), 2_760_704, 8_282_112),
    (LLAMA, Method(name="lora", rank=4, targets=(ALL_LINEAR,)), 2_564_096, 5_562_368),
    (LLAMA, Method(name="lora", rank=4, targets=("o_proj",)), 2_220_032, 4_349_952),
    (LLAMA, Method(name="lora", rank=4, targets=("embed_tokens",)), 2_179_072, 4_562_944),
    (GPT2, Method(name="lora", rank=4, targets=("c_attn",)), 2_859_008, 5_808_128),
    (GPT2, Method(name="bitfit"), 2_760_704, 5_718_016),
    (LLAMA, Method(name="freeze", trained_layers=1), 2_170_880, 3_891_200),
    (LLAMA, Method(name="prompt", prompt_tokens=5), 2_929_920, 6_198_528),
]


@pytest.mark.parametrize(("config", "method", "forward", "total"), COUNTED)
def test_torch_counts_as_many(config: dict[str, Any], method: Method, forward: int, total: int) -> None:
    found = step(config, 16, 2, causal=False, method=method, attention="eager")
    assert (found.forward, found.model_flops) == (forward, total)


def test_in_the_first_layer_two_score_gradients_too_many_are_counted() -> None:
    """Keys of the first layer need no gradient when only queries and values are adapted: torch leaves that out."""
    method = Method(name="lora", rank=4, targets=("q_proj", "v_proj"))
    found = step(LLAMA, 16, 2, causal=False, method=method, attention="eager")
    assert found.model_flops == 4_616_192 + 2 * 2 * 4 * 16 * 16 * 8


@pytest.mark.torch
@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_torch_still_counts_as_many(config: dict[str, Any]) -> None:
    torch: Any = pytest.importorskip("torch")
    transformers: Any = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    reference = getattr(transformers, config["architectures"][0])
    settings = {key: value for key, value in config.items() if key != "model_type"}
    model = reference(reference.config_class(**settings, attn_implementation="eager"))
    ids = torch.randint(0, 100, (2, 16))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    assert counter.get_total_flops() == step(config, 16, 2, causal=False, attention="eager").model_flops
