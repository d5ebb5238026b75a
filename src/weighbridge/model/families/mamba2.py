"""Mamba 2: Mamba's wiring with heads of scalar decay, a gated norm in the mixer, untied head.

Source: transformers `models/mamba2/{configuration,modeling}_mamba2.py` (5.x), whose defaults are those of Codestral
Mamba. Heads times their width must be `expand` times the width.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks.state_space import Mamba2
from weighbridge.model.families.mamba import backbone
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Layers of a norm and a mixer."""
    hidden = hyperparameters.count("hidden_size")
    mixer = Mamba2(
        hidden_size=hidden,
        num_heads=hyperparameters.count("num_heads", 128),
        head_dim=hyperparameters.count("head_dim", 64),
        num_groups=hyperparameters.count("n_groups", 8),
        state_size=hyperparameters.count("state_size", 128),
        conv_kernel=hyperparameters.count("conv_kernel", 4),
        bias=hyperparameters.flag("use_bias", False),
        conv_bias=hyperparameters.flag("use_conv_bias", True),
    )
    check_inner_size(hyperparameters, mixer, hyperparameters.count("expand", 2) * hidden)
    return backbone(hyperparameters, "mamba2", ("Mamba2",), mixer, tied=False, heads=mixer.num_heads)


def check_inner_size(hyperparameters: Hyperparameters, mixer: Mamba2, expected: int) -> None:
    """Refuses heads that do not fill the inner width, as the reference does.

    Raises:
        ConfigError: when they do not.
    """
    if mixer.inner_size != expected:
        read = f"{hyperparameters.source} gives {mixer.num_heads} mixer heads of {mixer.head_dim}"
        raise ConfigError(read, f"heads that fill the inner width of {expected}", "correct the sizes")


FAMILY = Family(
    name="mamba2",
    title="Mamba 2 and Codestral Mamba",
    model_types=("mamba2",),
    gguf={},
    source="transformers models/mamba2",
    build=build,
)
