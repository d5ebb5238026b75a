"""Is a diffusion pipeline the sum of its parts, and is each part held against its own weights?"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.errors import ConfigError, WeighbridgeError
from weighbridge.formats.reconcile import Status

TEXT: dict[str, Any] = {
    "model_type": "clip_text_model", "architectures": ["CLIPTextModel"], "hidden_size": 32, "intermediate_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99, "max_position_embeddings": 16,
}  # fmt: skip
UNET: dict[str, Any] = {
    "_class_name": "UNet2DConditionModel", "block_out_channels": [32, 64], "cross_attention_dim": 32,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1, "attention_head_dim": 8, "sample_size": 16,
}  # fmt: skip
VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKL", "block_out_channels": [32], "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"], "latent_channels": 4, "sample_size": 32,
}  # fmt: skip
INDEX: dict[str, Any] = {
    "_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"], "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "PNDMScheduler"],
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "image_encoder": [None, None],
    "requires_safety_checker": True,
}  # fmt: skip
PARTS = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    (tmp_path / "model_index.json").write_text(json.dumps(INDEX))
    for name, config in PARTS.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    return tmp_path


def store(folder: Path, config: dict[str, Any], name: str = "model.safetensors", drop: int = 0) -> None:
    """The weights of a part, as zeros in fp16, without the last `drop` tensors."""
    header, offset = {}, 0
    for tensor in list(inspect(config).tensors)[: -drop or None]:
        header[tensor.name] = {"dtype": "F16", "shape": list(tensor.shape),
                               "data_offsets": [offset, offset + 2 * tensor.elements]}  # fmt: skip
        offset += 2 * tensor.elements
    text = json.dumps(header).encode()
    (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))


def test_a_pipeline_is_the_sum_of_its_parts(pipeline: Path) -> None:
    document = json.loads(CliRunner().invoke(main, ["inspect", str(pipeline), "--json"]).stdout)
    alone = {name: inspect(config) for name, config in PARTS.items()}
    assert document["format"] == "pipeline" and document["family"] == "pipeline"
    assert document["parameters"]["by_part"] == {name: part.parameters.total for name, part in alone.items()}
    assert document["parameters"]["total"] == sum(part.parameters.total for part in alone.values())
    assert document["flops"]["by_part"] == {name: part.flops_per_token for name, part in alone.items()}
    assert document["bytes"]["stored"] is None
    for name, count in document["parameters"]["by_component"].items():
        assert count == sum(part.parameters.by_component[name] for part in alone.values())
    assert any("safety_checker is left out" in note for note in document["notes"])


def test_the_index_and_the_folder_are_the_same_source(pipeline: Path) -> None:
    assert inspect(pipeline / "model_index.json").parameters == inspect(pipeline).parameters


def test_steps_multiply_the_pass_of_the_denoiser(pipeline: Path) -> None:
    flops = json.loads(CliRunner().invoke(main, ["inspect", str(pipeline), "--steps", "50", "--json"]).stdout)["flops"]
    assert flops["denoising"] == 50 * flops["by_part"]["unet"] and flops["steps"] == 50
    assert "50 denoising steps" in CliRunner().invoke(main, ["inspect", str(pipeline), "--steps", "50"]).stdout
    refused = CliRunner().invoke(main, ["inspect", "gpt-2", "--steps", "50"])
    assert refused.exit_code == 2 and "no denoiser" in refused.stderr


def test_each_part_is_held_against_its_own_weights(pipeline: Path) -> None:
    for name, config in PARTS.items():
        store(pipeline / name, config)
    found = inspect(pipeline)
    assert found.reconciliation.status is Status.AGREES
    assert found.stored is not None and found.stored.elements == found.parameters.total
    assert {file.name.partition("/")[0] for file in found.checkpoint.files} == PARTS.keys()
    store(pipeline / "vae", VAE, drop=1)
    broken = inspect(pipeline).reconciliation
    assert broken.status is Status.DIFFERS
    assert [d.name.partition(".")[0] for d in broken.differences if not d.explained] == ["vae"]


def test_a_variant_yields_to_the_plain_file(pipeline: Path) -> None:
    store(pipeline / "unet", UNET, "model.fp16.safetensors", drop=3)
    store(pipeline / "unet", UNET)
    reconciliation = inspect(pipeline).reconciliation
    assert reconciliation.status is Status.AGREES
    assert reconciliation.note == "not held against weights: vae, text_encoder"


def test_a_missing_part_is_named(pipeline: Path) -> None:
    shutil.rmtree(pipeline / "vae")
    with pytest.raises(WeighbridgeError, match="no readable vae"):
        inspect(pipeline)


@pytest.mark.parametrize(
    "index",
    [{}, {"scheduler": ["diffusers", "PNDMScheduler"]}, {"../unet": ["diffusers", "UNet2DConditionModel"]}],
)
def test_an_index_that_names_no_model_or_leads_out_is_refused(pipeline: Path, index: dict[str, Any]) -> None:
    (pipeline / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(WeighbridgeError):
        inspect(pipeline)


def test_a_part_of_another_class_is_refused_and_the_index_decides_among_those_of_transformers(pipeline: Path) -> None:
    (pipeline / "vae" / "config.json").write_text(json.dumps(UNET))
    with pytest.raises(WeighbridgeError, match=r"where model_index\.json names AutoencoderKL"):
        inspect(pipeline)
    (pipeline / "vae" / "config.json").write_text(json.dumps(VAE))
    (pipeline / "text_encoder" / "config.json").write_text(json.dumps({**TEXT, "architectures": ["CLIPModel"]}))
    assert inspect(pipeline).parameters.by_part["text_encoder"] == inspect(TEXT).parameters.total


@pytest.mark.parametrize("entry", [[["transformers", "CLIPTextModel"]], ["transformers", "CLIPTextModel", "x"], []])
def test_an_entry_that_is_no_pair_is_refused(pipeline: Path, entry: Any) -> None:
    index = json.loads((pipeline / "model_index.json").read_text())
    (pipeline / "model_index.json").write_text(json.dumps(index | {"text_encoder": entry}))
    with pytest.raises(ConfigError, match="a library and a class"):
        inspect(pipeline)


def test_a_part_that_is_no_model_is_refused() -> None:
    for wrong in ({"text_encoder_config": 5}, {"a.b_config": UNET},
                  {"inner_config": {"model_type": "pipeline", "unet_config": UNET}}):  # fmt: skip
        with pytest.raises(ConfigError, match="one model under a plain name"):
            inspect({"model_type": "pipeline", "unet_config": UNET} | wrong)


def test_an_undescribed_part_refuses_the_whole(pipeline: Path) -> None:
    (pipeline / "unet" / "config.json").write_text(json.dumps({**UNET, "class_embed_type": "timestep"}))
    with pytest.raises(WeighbridgeError, match="class_embed_type"):
        inspect(pipeline)
