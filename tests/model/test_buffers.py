"""Which stored tensors are fixed tables, by the names and shapes that published files have."""

from __future__ import annotations

import pytest

from weighbridge.model.buffers import named_buffer


@pytest.mark.parametrize(
    ("name", "shape"),
    [("_model.stft.forward_basis_buffer", (258, 1, 256)), ("spec.stft.conv_real.weight", (513, 1, 1024)),
     ("logmel.melW", (513, 64)), ("mel.mel_scale.fb", (201, 80)), ("frontend.window", (400,)),
     ("model.layers.0.self_attn.rotary_emb.inv_freq", (64,)), ("rope_freqs.weight", (64,)),
     ("rope_factors_long.weight", (48,)), ("transformer.h.0.attn.mask", (1, 1, 128, 128)),
     ("layers.0.blocks.1.attn_mask", (64, 49, 49)), ("bn1.running_var", (64,)), ("bn.moving_mean", (64,)),
     ("up.0.filter", (1, 1, 12)), ("head.tril", (256, 256))],
)  # fmt: skip
def test_a_fixed_transform_is_a_buffer(name: str, shape: tuple[int, ...]) -> None:
    assert named_buffer(name, shape) is not None


@pytest.mark.parametrize(
    ("name", "shape"),
    [("attn.bias", (768,)), ("encoder.filter", (64, 3, 7)), ("conv_real.weight", (64, 64, 3)), ("x.window", (3, 4, 5)),
     ("self_attn.mask", (12, 64)), ("causal_mask", (12, 64)), ("mel_basis", (1, 2, 3)), ("fb", (4, 4)),
     ("model.norm.weight", (64,))],
)  # fmt: skip
def test_a_weight_of_a_similar_name_is_none(name: str, shape: tuple[int, ...]) -> None:
    assert named_buffer(name, shape) is None
