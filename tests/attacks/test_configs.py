"""Configurations of every family with settings changed, left out or nonsense: a count or a refusal, no traceback."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from tests.golden_models import family_files, models

from weighbridge.errors import WeighbridgeError
from weighbridge.inspection import inspect

CONFIGS = [row["config"] for row in models()]
CONFIGS += [case["config"] for golden in family_files().values() for case in golden.get("shrunk", ())]
NONSENSE: tuple[Any, ...] = (
    None, 0, -1, 1, 2, 3, 7, 10**9, 10**13, "x", "", True, False, [], [1], ["a"], {}, {"a": 1}, 1.5, float("nan"),
    "full_attention", [None], [[1]], [0] * 3, {"model_type": "bert"},
)  # fmt: skip


def changed(config: dict[str, Any], dice: random.Random) -> dict[str, Any]:
    """The configuration with one to three settings, of it or of its parts, replaced or left out."""
    config = copy.deepcopy(config)
    for _ in range(dice.choice((1, 1, 2, 3))):
        part = config
        while part:
            key = dice.choice(list(part))
            if isinstance(part[key], dict) and part[key] and dice.random() < 0.7:
                part = part[key]
            elif dice.random() < 0.25:
                del part[key]
                break
            else:
                part[key] = dice.choice(NONSENSE)
                break
    return config


@pytest.mark.parametrize("seed", range(10))
def test_changed_configurations_are_counted_or_refused(seed: int) -> None:
    """A setting can be anything that JSON can say."""
    dice = random.Random(seed)
    for _ in range(300):
        config = changed(dice.choice(CONFIGS), dice)
        try:
            inspect(config).to_json()
        except WeighbridgeError as error:
            assert error.exit_code == 2
        except Exception as error:
            pytest.fail(f"{error!r} for {config}")


def test_an_unknown_class_is_refused_by_every_family() -> None:
    """A class that nobody described may be wired in any way."""
    for model_type in sorted({config["model_type"] for config in CONFIGS if "model_type" in config}):
        try:
            inspect({"model_type": model_type, "architectures": ["NoSuchClass"]})
        except WeighbridgeError as error:
            assert error.action
        else:
            pytest.fail(f"{model_type} is counted for a class that nobody knows")
