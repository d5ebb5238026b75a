"""Encoder-decoders: layers follow on one another, cross-attention is kept once, shared layers work each time."""

from __future__ import annotations

from typing import Any

import pytest

from weighbridge.errors import ConfigError
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Workload
from weighbridge.model.blocks import StateKind

SIDES = {"encoder_layers": 4, "decoder_layers": 2, "encoder_attention_heads": 6, "decoder_attention_heads": 6,
         "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536, "d_model": 384, "vocab_size": 51865}  # fmt: skip
WHISPER: dict[str, Any] = {"model_type": "whisper", **SIDES}
ALBERT: dict[str, Any] = {"model_type": "albert", "hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64,
                          "embedding_size": 16, "vocab_size": 100, "num_hidden_layers": 12}  # fmt: skip


def test_decoder_layers_follow_on_the_encoders() -> None:
    found = inspect(WHISPER)
    encoder, decoder = found.parameters.by_layer[0], found.parameters.by_layer[4]
    assert found.parameters.by_layer == (encoder,) * 4 + (decoder,) * 2
    assert decoder - encoder == 4 * 384 * 384 + 3 * 384 + 2 * 384  # cross-attention and its norm
    assert found.architecture is not None
    places = {tensor.name: tensor.layer for tensor in found.architecture.tensors()}
    assert places["model.encoder.layers.1.fc1.weight"] == 1 and places["model.decoder.layers.1.fc1.weight"] == 5


def test_cross_attention_is_kept_once_a_sequence() -> None:
    found = inspect(WHISPER)
    assert found.state is not None and found.architecture is not None
    assert found.state.cross_per_sequence == 2 * 384 * 1500 * 2
    assert found.state.kv_per_token == 2 * 384 * 2
    for tokens in (1, 100, 2000):
        rows = [row for row in found.architecture.state(Workload(batch_size=3, new_tokens=tokens))
                if row.kind is StateKind.CROSS]  # fmt: skip
        assert [row.size_bytes for row in rows] == [3 * 2 * 2 * 384 * 1500 * 2]


def test_shared_layers_are_held_once_and_computed_each_time() -> None:
    once, twelve = inspect({**ALBERT, "num_hidden_layers": 1}), inspect(ALBERT)
    assert once.parameters.total == twelve.parameters.total
    assert once.flops_per_token is not None and twelve.flops_per_token is not None
    layer = 2 * (4 * 32 * 32 + 2 * 32 * 64)
    assert twelve.flops_per_token - once.flops_per_token == 11 * layer


def test_configurations_of_2019_are_recognised_by_their_keys() -> None:
    old = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
           "vocab_size": 100, "max_position_embeddings": 20, "hidden_act": "gelu"}  # fmt: skip
    families = [inspect({**old, "type_vocab_size": types}).architecture for types in (1, 2)]
    assert [family.family for family in families if family is not None] == ["roberta", "bert"]
    with pytest.raises(ConfigError, match="no model_type"):
        inspect({**old, "type_vocab_size": 2, "attention_window": 512})


@pytest.mark.parametrize("tied", [True, False])
def test_the_head_of_t5_is_tied_as_the_file_says(tied: bool) -> None:
    t5 = {"model_type": "t5", "d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 100}
    found = inspect({**t5, "tie_word_embeddings": tied}).parameters
    assert found.by_component["head"] == (0 if tied else 3200) and found.tied_embeddings is tied
    assert found.embedding == 3200
