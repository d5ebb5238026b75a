"""Are the FLOPs of convolutional nets those that PyTorch counts while the reference class runs on the meta device?

`FlopCounterMode` counts two operations for each multiplication of matrix products, convolutions and attention, as
Weighbridge does.
"""

from __future__ import annotations

from typing import Any

import pytest

from weighbridge.formats import config as config_format
from weighbridge.inspection import inspect
from weighbridge.model import families
from weighbridge.predict.counts import forward_flops_per_token

pytestmark = pytest.mark.torch

CASES: list[tuple[str, dict[str, Any], tuple[int, int]]] = [
    ("ResNetForImageClassification", {}, (224, 224)),
    ("ResNetForImageClassification", {"layer_type": "basic", "hidden_sizes": [64, 128], "depths": [2, 1]}, (224, 224)),
    ("ResNetForImageClassification", {"downsample_in_first_stage": True, "image_size": 97}, (97, 97)),
    ("ResNetForImageClassification", {"downsample_in_bottleneck": True, "image_size": [61, 130]}, (61, 130)),
    ("ResNetModel", {"layer_type": "basic", "downsample_in_bottleneck": True, "depths": [1, 1, 1, 1]}, (224, 224)),
    ("RegNetForImageClassification", {}, (224, 224)),
    ("RegNetForImageClassification", {"layer_type": "x", "image_size": 113}, (113, 113)),
    ("RegNetModel", {"downsample_in_first_stage": False, "groups_width": 32}, (224, 224)),
    ("ConvNextForImageClassification", {}, (224, 224)),
    ("ConvNextForImageClassification", {"image_size": 231, "patch_size": 3}, (231, 231)),
    ("ConvNextV2Model", {"image_size": 95, "depths": [1, 2, 1, 1]}, (95, 95)),
    ("EfficientNetForImageClassification", {}, (600, 600)),
    ("EfficientNetForImageClassification", {"image_size": 95, "depthwise_padding": [0, 7, 11]}, (95, 95)),
    ("EfficientNetModel", {"image_size": [77, 90], "strides": [2, 1, 2, 2, 2, 2, 1], "width_coefficient": 1.0,
                           "depth_coefficient": 1.0, "hidden_dim": 1280}, (77, 90)),
    ("MobileNetV1ForImageClassification", {}, (224, 224)),
    ("MobileNetV1Model", {"image_size": 129, "tf_padding": False, "depth_multiplier": 0.5}, (129, 129)),
    ("MobileNetV2ForImageClassification", {}, (224, 224)),
    ("MobileNetV2ForImageClassification", {"image_size": 131, "output_stride": 8}, (131, 131)),
    ("MobileNetV2Model", {"image_size": 99, "tf_padding": False, "output_stride": 16, "depth_multiplier": 1.4,
                          "first_layer_is_expansion": False}, (99, 99)),
    ("PoolFormerForImageClassification", {}, (224, 224)),
    ("PoolFormerModel", {"image_size": [95, 130], "strides": [4, 3, 2, 1], "padding": [2, 0, 1, 2],
                         "patch_sizes": [7, 3, 2, 5], "mlp_ratio": 3.0}, (95, 130)),
    ("SegformerForSemanticSegmentation", {"num_labels": 150}, (512, 512)),
    ("SegformerForImageClassification", {"image_size": [97, 160], "sr_ratios": [7, 3, 2, 1]}, (97, 160)),
    ("SegformerModel", {"image_size": 224, "strides": [4, 2, 1, 2], "patch_sizes": [7, 3, 5, 4]}, (224, 224)),
    ("MobileViTForImageClassification", {}, (256, 256)),
    ("MobileViTForImageClassification", {"image_size": [97, 224], "output_stride": 16}, (97, 224)),
    ("MobileViTModel", {"image_size": 130, "output_stride": 8, "patch_size": 3, "expand_ratio": 2.0}, (130, 130)),
    ("SwinForImageClassification", {}, (224, 224)),
    ("SwinForMaskedImageModeling", {"image_size": 192, "window_size": 6}, (192, 192)),
    ("SwinModel", {"image_size": [270, 226], "window_size": 5, "depths": [2, 2, 2], "num_heads": [1, 2, 4],
                   "patch_size": 3}, (270, 226)),
    ("Swinv2ForImageClassification", {"image_size": 256, "window_size": 8}, (256, 256)),
    ("Swinv2Model", {"image_size": 192, "window_size": 12}, (192, 192)),
    ("Swinv2ForMaskedImageModeling", {"image_size": 226, "window_size": 6}, (226, 226)),
    ("HieraForImageClassification", {}, (224, 224)),
    ("HieraModel", {"image_size": [256, 128], "masked_unit_attention": [True, False, True, False],
                    "num_query_pool": 2, "depths": [1, 2, 1, 1]}, (256, 128)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "size"), CASES, ids=[f"{c[0]}-{n}" for n, c in enumerate(CASES)])
def test_one_image_costs_what_the_reference_class_computes(
    name: str, settings: dict[str, Any], size: tuple[int, int]
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    reference = getattr(transformers, name)
    config = {"model_type": reference.config_class.model_type, "architectures": [name], **settings}
    with torch.device("meta"):
        model = reference(reference.config_class(**settings)).eval()
        image = torch.zeros(1, 3, *size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    description = families.build(config_format.hyperparameters(config, "config.json"))
    assert forward_flops_per_token(description) == counter.get_total_flops()
    assert f"FLOPs are those of one image of {size[0]} x {size[1]}" in inspect(config).notes
