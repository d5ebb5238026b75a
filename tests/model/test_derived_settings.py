"""Settings that files repeat, though others give them: read where the reference class reads them, refused otherwise.

Where the number here is refused, the reference class makes a model of another size: the shrunk MobileBERT with
`true_hidden_size` = 8, for one, in which the bottlenecks do not fit the layers.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.golden_models import family_files

from weighbridge.errors import ConfigError
from weighbridge.inspection import inspect

FILES = family_files()
CASES = [
    ("mobilebert", 0, {"true_hidden_size": 8}, "true_hidden_size"),
    ("mobilebert", 0, {"true_hidden_size": 16, "use_bottleneck": False}, "true_hidden_size"),
    ("parakeet", 1, {"num_key_value_heads": 4}, "query heads by key-value heads"),
    ("aria", 0, {"max_value_projector_patch_to_query_dict": 0}, "max_value_projector_patch_to_query_dict"),
    ("florence2", 0, {"text_config": {"tie_word_embeddings": False}}, "tie_word_embeddings"),
    ("florence2", 0, {"tie_word_embeddings": False}, "tie_word_embeddings"),
    ("xlnet", 1, {"attn_type": ["bi"]}, "attn_type"),
    *(("t5", number, {"is_decoder": True}, "is_decoder") for number in (2, 4, 9, 13, 15, 19, 24)),
]


@pytest.mark.parametrize(("family", "number", "change", "told"), CASES)
def test_what_would_not_fit_is_refused(family: str, number: int, change: dict[str, Any], told: str) -> None:
    config = FILES[family]["shrunk"][number]["config"]
    assert inspect(config).parameters.total
    parts = {key: {**config[key], **value} for key, value in change.items() if isinstance(value, dict)}
    with pytest.raises(ConfigError, match=told):
        inspect({**config, **change, **parts})


@pytest.mark.parametrize("channels", [[1_000_000], {}, "x", None, 4])
def test_detr_refuses_a_backbone_on_other_colours(channels: Any) -> None:
    config = FILES["detr"]["models"][0]["config"]
    assert inspect({**config, "backbone_kwargs": {"in_chans": 3}}).parameters.total
    with pytest.raises(ConfigError, match="backbone"):
        inspect({**config, "backbone_kwargs": {"in_chans": channels}})


@pytest.mark.parametrize("number", [0, 1, 3])
def test_t5_with_a_decoder_of_its_own_may_say_that_it_has_one(number: int) -> None:
    config = FILES["t5"]["shrunk"][number]["config"]
    assert inspect({**config, "is_decoder": True}).parameters.total == inspect(config).parameters.total


def test_the_norm_of_kimi_k25_is_as_wide_as_the_tower_in_its_own_spelling() -> None:
    config = dict(FILES["kimi_k25"]["shrunk"][0]["config"])
    del config["projection_hidden_size"]
    vision = {"vt_hidden_size" if key == "hidden_size" else key: n for key, n in config["vision_config"].items()}
    norms = [
        {t.name: t.shape for t in inspect({**config, "vision_config": part}).tensors}["mm_projector.pre_norm.weight"]
        for part in (config["vision_config"], vision, {**vision, "mm_hidden_size": 20})
    ]
    assert norms == [(1152,), (32,), (20,)]
