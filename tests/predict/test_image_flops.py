"""Are the FLOPs of convolutional nets those that PyTorch counts while the reference class runs?

The golden numbers are from `torch.utils.flop_counter.FlopCounterMode` over diffusers 0.42.1 on the meta device (torch
2.13), which is no dependency. For Stable Diffusion XL, with `config` that of the golden file without `_class_name`:

    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(**config, addition_time_embed_dim=256).eval()
        latent, text = torch.zeros(1, 4, 128, 128), torch.zeros(1, 77, 2048)
        added = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)}
    with FlopCounterMode() as counter, torch.no_grad():
        unet(latent, torch.ones(1), text, added_cond_kwargs=added)
    counter.get_total_flops()

The others likewise, without `added`; a ControlNet has an image of eight times the size beside, an autoencoder is called
with an image of 3 x 512 x 512 alone, which it encodes and decodes, and that of a film with one frame.

For the nets of timm 1.0.31, by the name of their architecture:

    with torch.device("meta"):
        net, image = timm.create_model(name).eval(), torch.zeros(1, 3, height, width)
    with FlopCounterMode() as counter, torch.no_grad():
        net(image)
    counter.get_total_flops()
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.golden_models import family_files

from weighbridge.errors import ConfigError
from weighbridge.formats import config as config_format
from weighbridge.inspection import inspect
from weighbridge.model import families
from weighbridge.model.architecture import Architecture, Workload
from weighbridge.predict.counts import count, forward_flops_per_token

BOTH = "encoding and decoding one image of"
PASS = "one pass with a text of 77 tokens over a latent of"
GOLDEN = [
    ("unet", "stable-diffusion-v1-5-unet", 64, 803_273_441_280, PASS),
    ("unet", "stable-diffusion-2-1-unet", 96, 2_149_105_745_920, PASS),
    ("unet", "stable-diffusion-xl-base-1.0-unet", 128, 6_761_236_398_080, PASS),
    ("unet", "controlnet-sd15", 64, 283_291_975_680, PASS),
    ("unet", "controlnet-sdxl-1.0", 128, 3_020_382_371_840, PASS),
    ("unet_2d", "ddpm-cifar10-32", 32, 12_443_713_536, "one pass over an image of"),
    ("unet_2d", "ddpm-celebahq-256", 256, 497_027_514_368, "one pass over an image of"),
    ("autoencoder_kl", "stable-diffusion-vae", 512, 3_631_177_400_320, BOTH),
    ("autoencoder_tiny", "taesd", 512, 263_674_920_960, BOTH),
    ("autoencoder_dc", "dc-ae-f32c32-sana-1.0", 512, 3_387_052_523_520, BOTH),
    ("autoencoder_kl_wan", "qwen-image-vae", 512, 4_614_164_316_160, f"{BOTH[:-3]}, a film of one frame, of"),
    ("autoencoder_kl_wan", "wan2.2-vae", 512, 7_195_024_949_248, f"{BOTH[:-3]}, a film of one frame, of"),
]
TIMM = [
    ("mobilenetv3_large_100", (224, 224), 433_179_520),
    ("tf_mobilenetv3_small_100", (225, 225), 130_759_120),
    ("mobilenetv4_conv_small", (224, 224), 372_011_136),
    ("mobilenetv4_conv_medium", (193, 227), 1_678_388_576),
    ("efficientnetv2_s", (201, 131), 3_378_385_184),
    ("resnet50", (288, 288), 13_516_668_928),
    ("resnet18", (131, 224), 2_299_916_288),
    ("resnet152", (224, 224), 23_027_253_248),
    ("convnext_tiny", (288, 288), 14_729_528_832),
    ("convnext_base", (231, 200), 26_555_702_784),
]
VARIANTS = [
    ("mobilenet_v3", "large", 224, 433_179_520),
    ("mobilenet_v3", "small", 224, 113_020_800),
    ("mobilenet_v4", "conv_small", 224, 372_011_136),
    ("mobilenet_v4", "conv_medium", 256, 2_160_488_448),
    ("mobilenet_v4", "conv_large", 384, 12_752_441_344),
    ("efficientnet_v2", "s", 300, 10_615_122_496),
    ("efficientnet_v2", "m", 384, 31_473_551_360),
    ("efficientnet_v2", "l", 384, 71_798_837_248),
    ("efficientnet_v2", "xl", 384, 105_058_508_800),
]
RESNET_50 = {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "num_labels": 1000}


def described(config: dict[str, Any]) -> Architecture:
    return families.build(config_format.hyperparameters(config, "config.json"))


def golden(family: str, name: str) -> dict[str, Any]:
    return next(dict(row["config"]) for row in family_files()[family]["models"] if row["name"] == name)


@pytest.mark.parametrize(("family", "name", "size", "flops", "what"), GOLDEN, ids=[row[1] for row in GOLDEN])
def test_one_pass_costs_what_pytorch_counts(family: str, name: str, size: int, flops: int, what: str) -> None:
    config = golden(family, name) | {"sample_size": size}
    architecture = described(config)
    assert forward_flops_per_token(architecture) == flops
    assert sum(operation.flops for operation in architecture.operations(Workload())) == flops
    assert f"FLOPs are those of {what} {size} x {size}" in inspect(config).notes


@pytest.mark.parametrize(("family", "name"), [row[:2] for row in GOLDEN], ids=[row[1] for row in GOLDEN])
def test_matmul_parameters_do_not_depend_on_the_size(family: str, name: str) -> None:
    small, large = (count(described(golden(family, name) | {"sample_size": size})) for size in (64, 96))
    assert small == large
    assert small.matmul < small.total


@pytest.mark.parametrize(("name", "size", "flops"), TIMM, ids=[row[0] for row in TIMM])
def test_a_net_of_timm_costs_what_pytorch_counts(name: str, size: tuple[int, int], flops: int) -> None:
    config = {"architecture": name, "num_classes": 1000, "pretrained_cfg": {"input_size": [3, *size]}}
    assert forward_flops_per_token(described(config)) == flops
    assert f"FLOPs are those of one image of {size[0]} x {size[1]}" in inspect(config).notes


@pytest.mark.parametrize(("kind", "variant", "size", "flops"), VARIANTS, ids=["-".join(row[:2]) for row in VARIANTS])
def test_a_variant_has_the_size_that_it_was_published_for(kind: str, variant: str, size: int, flops: int) -> None:
    config = {"model_type": kind, "variant": variant}
    assert forward_flops_per_token(described(config)) == flops
    assert f"FLOPs are those of one image of {size} x {size}" in inspect(config).notes


def test_tiny_nets_cost_what_is_summed_by_hand() -> None:
    positions = 25 * 5  # of 49 x 10 after a stride of 2
    keywords = positions * (10 * 4 * 64 + 4 * (9 * 64 + 64 * 64)) + 64 * 12
    pictures = 32**2 * (9 * 3 * 16 + 2 * 9 * 16 * 16) + 64 * 10
    for side, width in ((16, 32), (8, 64)):
        pictures += side**2 * (9 * width // 2 * width + 9 * width * width + width // 2 * width)
    assert forward_flops_per_token(described({"model_type": "ds_cnn"})) == 2 * keywords
    assert forward_flops_per_token(described({"model_type": "tiny_resnet"})) == 2 * pictures
    assert "FLOPs are those of one sound of 49 x 10" in inspect({"model_type": "ds_cnn"}).notes


def test_the_tiny_mobilenet_is_a_quarter_of_the_first_mobilenet() -> None:
    quarter = {"model_type": "mobilenet_v1", "architectures": ["MobileNetV1ForImageClassification"],
               "depth_multiplier": 0.25, "image_size": 96, "num_labels": 2}  # fmt: skip
    tiny = forward_flops_per_token(described({"model_type": "tiny_mobilenet"}))
    assert tiny == forward_flops_per_token(described(quarter))


def test_an_autoencoder_costs_in_proportion_to_the_pixels_but_for_its_attention() -> None:
    config = golden("autoencoder_kl", "stable-diffusion-vae") | {"mid_block_add_attention": False}
    small, large = (forward_flops_per_token(described(config | {"sample_size": size})) for size in (256, 512))
    assert large == 4 * small


def test_resnet_50_takes_4_giga_multiplications_an_image() -> None:
    flops = forward_flops_per_token(described(RESNET_50))
    assert round(flops / 2e9, 2) == 4.09
    assert count(described(RESNET_50)).total == 25_557_032


def test_an_image_that_nothing_is_left_of_is_refused() -> None:
    with pytest.raises(ConfigError, match="makes nothing of an image of 2 x 2"):
        described({"model_type": "convnext", "image_size": 2})


def test_a_convolution_moves_its_kernel_and_its_maps_once() -> None:
    first = next(iter(described(RESNET_50).operations(Workload())))  # 7 x 7 from 3 to 64 channels, 112 x 112 positions
    assert first.flops == 2 * 7 * 7 * 3 * 64 * 112 * 112
    assert first.bytes_read == 2 * (7 * 7 * 3 * 64 + 3 * 112 * 112)
    assert first.bytes_written == 2 * 64 * 112 * 112


@pytest.mark.parametrize("family", ["detr", "sam", "dpt", "encodec", "musicgen", "gemma3n", "parakeet", "moonshine"])
def test_a_net_whose_maps_are_not_followed_says_so(family: str) -> None:
    notes = inspect(dict(family_files()[family]["models"][0]["config"])).notes
    assert any(note.startswith("FLOPs count each convolution once") for note in notes)
