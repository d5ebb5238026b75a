"""Every family against the reference implementation: shrunken models on the meta device, name by name.

Each golden file lists small configurations under `shrunk`. The class of transformers that a configuration names is
instantiated without memory; its parameters must be those that the family describes, with the same names, shapes and
ties. `names: false` marks families whose published names are not those of the class; totals are compared all the same.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.golden_models import family_files

from weighbridge.inspection import inspect

pytestmark = pytest.mark.torch

CASES = [
    pytest.param(case, id=f"{family}-{number}")
    for family, golden in family_files().items()
    for number, case in enumerate(golden.get("shrunk", ()))
]


@pytest.mark.parametrize("case", CASES)
def test_the_description_is_that_of_the_reference_class(case: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = dict(case["config"])
    name = config["architectures"][0]
    settings = {key: value for key, value in config.items() if key != "model_type"}
    reference = getattr(transformers, name)
    with torch.device("meta"):
        model = reference(reference.config_class(**settings))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    distinct = {id(parameter): parameter for parameter in parameters.values()}
    found = inspect(config)
    assert found.parameters.total == sum(parameter.numel() for parameter in distinct.values())
    if not case.get("names", True):
        return
    described = {
        tensor.name: tensor.shape for tensor in found.tensors if tensor.kind.value == "parameter" and not tensor.mtp
    }
    theirs = {key: tuple(parameter.shape) for key, parameter in parameters.items()}
    assert described == theirs


def test_longcat_routes_to_idle_experts_for_which_the_class_alone_has_gates() -> None:
    """No shrunk case has idle experts: the class makes gates for them that no published file holds."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    config = {**family_files()["longcat_flash"]["shrunk"][0]["config"], "zero_expert_num": 3}
    with torch.device("meta"):
        settings = transformers.LongcatFlashConfig(
            **{key: value for key, value in config.items() if key != "model_type"}
        )
        model = transformers.LongcatFlashForCausalLM(settings)
    found = inspect(config)
    name = "model.layers.0.mlp.router.classifier.weight"
    described = {tensor.name: tensor.shape for tensor in found.tensors}
    assert described[name] == tuple(model.get_parameter(name).shape) == (4 + 3, 32)
    gates = 2 * 3 * 2 * 16 * 32  # layers, idle experts, gate and up
    assert sum(parameter.numel() for parameter in model.parameters()) - found.parameters.total == gates
