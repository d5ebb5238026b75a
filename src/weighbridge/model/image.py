"""How is an image cut into patches, and what does a layer of an encoder over them consist of?

An image of H x W pixels gives (H // p) * (W // p) patches of p x p pixels (Dosovitskiy et al. 2021). The layer is the
transformer's with a norm before each part; families give its names.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Placement
from weighbridge.model.blocks import Attention, Block, FeedForward, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.spread import Spread
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component


def pair(hyperparameters: Hyperparameters, name: str, default: int) -> tuple[int, int]:
    """Height and width of a size that is spelled as one number or as two.

    Raises:
        ConfigError: when it is neither.

    Example:
        >>> pair(Hyperparameters("a.json", "vit", {"image_size": [224, 448]}), "image_size", 224)
        (224, 448)
    """
    value = hyperparameters.settings.get(name)
    if not isinstance(value, list | tuple):
        size = hyperparameters.count(name, default)
        return size, size
    if len(value) != 2 or not all(type(side) is int and side > 0 for side in value):
        read = f"{hyperparameters.source} has {name} = {repr(value)[:60]}"
        raise ConfigError(read, "one whole number or two", "correct the key")
    return value[0], value[1]


def counts(
    hyperparameters: Hyperparameters, name: str, default: tuple[int, ...], most: int = 2**40, least: int = 1
) -> tuple[int, ...]:
    """A list of whole numbers, such as the width of each stage; the default stands in for a missing or null key.

    Each is at least `least`, their sum at most `most`.

    Raises:
        ConfigError: when the key holds anything else.
    """
    value = hyperparameters.settings.get(name)
    if value is None:
        return default
    usable = isinstance(value, list | tuple) and 0 < len(value) <= MOST_LAYERS
    if not usable or not all(type(number) is int and number >= least for number in value) or sum(value) > most:
        read = f"{hyperparameters.source} has {name} = {repr(value)[:60]}"
        raise ConfigError(read, f"a list of whole numbers from {least}", "correct the key")
    return tuple(value)


@dataclass(frozen=True, slots=True)
class Grid:
    """Height and width of a map of features, which follow from those of the image by kernels, strides and paddings.

    Example:
        >>> Grid(224, 224).after(7, 2, 6).after(3, 2, 2).positions
        3136
    """

    height: int
    width: int

    @property
    def positions(self) -> int:
        """How often a convolution with this output applies its kernel."""
        return self.height * self.width

    def after(self, kernel: int | tuple[int, int], stride: int | tuple[int, int] = 1, padding: int = 0) -> Grid:
        """Where a kernel fits; `padding` counts both sides together."""
        kernels = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        strides = stride if isinstance(stride, tuple) else (stride, stride)
        sides = (max(0, (side + padding - size) // step + 1)
                 for side, size, step in zip((self.height, self.width), kernels, strides, strict=True))  # fmt: skip
        return Grid(*sides)

    def halved(self, stride: int = 2) -> Grid:
        """With a padding that keeps the size at stride 1: rounded up."""
        return Grid(-(-self.height // stride), -(-self.width // stride))

    def doubled(self) -> Grid:
        """Every position twice along both axes."""
        return Grid(2 * self.height, 2 * self.width)


def image_grid(hyperparameters: Hyperparameters, name: str = "image_size", default: int = 224) -> Grid:
    """The size of the image (or the latent) that the configuration names, and otherwise that of the usual processor."""
    return Grid(*pair(hyperparameters, name, default))


def one_image(hyperparameters: Hyperparameters, image: Grid, last: Grid, what: str = "one image") -> tuple[str, ...]:
    """The note on what FLOPs are counted for; `last` is the smallest map.

    Raises:
        ConfigError: when the image is so small that nothing is left of it.
    """
    size = f"{image.height} x {image.width}"
    if not last.positions:
        raise ConfigError(f"{hyperparameters.source} makes nothing of an image of {size}", "a larger image or fewer "
                          "convolutions that halve it", "correct the sizes")  # fmt: skip
    return (f"FLOPs are those of {what} of {size}",)


ONCE = "FLOPs count each convolution once: they are those of one position of every map, not of a whole input"
"""The note where a net of convolutions stands beside what is counted for each token."""


@dataclass(frozen=True, slots=True)
class Patches:
    """The patches of an image: their size, how many there are, and the colours of a pixel."""

    size: tuple[int, int]
    count: int
    channels: int

    def convolution(self, width: int, *, bias: bool = True) -> Convolution:
        """The convolution that makes a vector of each patch."""
        return Convolution(kernel=self.size, in_channels=self.channels, out_channels=width, bias=bias,
                           component=Component.EMBEDDING)  # fmt: skip


def patches(hyperparameters: Hyperparameters, image: int = 224, patch: int = 16) -> Patches:
    """The patches that `image_size`, `patch_size` and `num_channels` mean, with the class's defaults.

    Example:
        >>> patches(Hyperparameters("a.json", "vit", {})).count
        196
    """
    height, width = pair(hyperparameters, "image_size", image)
    rows, columns = pair(hyperparameters, "patch_size", patch)
    count = (height // rows) * (width // columns)
    if not count:
        read = f"{hyperparameters.source} has patches of {rows} x {columns} in an image of {height} x {width}"
        raise ConfigError(read, "patches smaller than the image", "correct the sizes")
    return Patches((rows, columns), count, hyperparameters.count("num_channels", 3))


def token(name: str, *shape: int, role: str = "position_embedding") -> Array:
    """A learned token or table of the embeddings."""
    return Array(name=name, shape=shape, role=role, component=Component.EMBEDDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Where the parts of an encoder's layer stand in it."""

    attention: str = "self_attn"
    projections: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "out_proj")
    norms: tuple[str, str] = ("layer_norm1", "layer_norm2")
    mlp: str = "mlp"
    up: str = "fc1"
    down: str = "fc2"
    gate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Layers of an encoder: how many, how wide, and with which biases.

    Without `key_bias` only queries and values have one. `offset` counts the layers of the model before.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    names: Names = Names()
    bias: bool = True
    qkv_bias: bool = True
    output_bias: bool = True
    norm_bias: bool = True
    key_bias: bool = True
    offset: int = 0
    causal: bool = False

    def placements(self, path: str) -> tuple[Placement, ...]:
        """The layers at a path that names `{layer}`."""
        layers, names = range(self.num_layers), self.names
        attention = Attention(hidden_size=self.hidden_size, num_heads=self.num_heads, num_kv_heads=self.num_heads,
                              head_dim=self.hidden_size // self.num_heads, names=names.projections, causal=self.causal,
                              qkv_bias=self.qkv_bias and self.key_bias, output_bias=self.output_bias)  # fmt: skip
        mlp = FeedForward(hidden_size=self.hidden_size, intermediate_size=self.intermediate_size, gate=names.gate,
                          up=names.up, down=names.down, bias=self.bias)  # fmt: skip
        norm = Norm(width=self.hidden_size, bias=self.norm_bias)

        def at(part: str) -> str:
            return f"{path}.{part}".rstrip(".")

        biased = ((0, "attention_q"), (2, "attention_v")) if self.qkv_bias and not self.key_bias else ()
        parts: list[tuple[str, Block]] = [
            (names.norms[0], replace(norm, role="attention_norm")),
            (names.attention, attention),
            *((names.attention, Vector(name=f"{names.projections[place]}.bias", width=self.hidden_size, role=role,
                                       component=Component.ATTENTION)) for place, role in biased),
            (names.norms[1], replace(norm, role="mlp_norm")),
            (names.mlp, mlp),
        ]  # fmt: skip
        return tuple(Placement(at(part), block, layers, offset=self.offset) for part, block in parts)


def encoder(
    hyperparameters: Hyperparameters,
    hidden: int,
    inner: int,
    layers: int,
    heads: int,
    names: Names = Names(),
) -> Encoder:
    """The layers that the usual settings mean, with the class's defaults.

    Raises:
        ConfigError: when the heads do not divide the width.
    """
    width, count = hyperparameters.count("hidden_size", hidden), hyperparameters.count("num_heads", heads)
    hyperparameters.divided("head_dim", width, count)
    return Encoder(
        hidden_size=width,
        intermediate_size=hyperparameters.count("intermediate_size", inner),
        num_layers=hyperparameters.count("num_layers", layers, most=MOST_LAYERS),
        num_heads=count,
        names=names,
    )


def spread(
    placements: Iterable[Placement], positions: int, attended: int, *, sources: int | None = None,
    padded: int | None = None,
) -> tuple[Placement, ...]:  # fmt: skip
    """A layer's parts, their maps applied at every position of one image, of which each attends to so many.

    `sources` are the positions of keys and values, `padded` those that attention has, where these are not as many.
    """
    return tuple(
        replace(placement, block=Spread(block=placement.block, positions=padded or positions, attended=attended,
                                        sources=sources))
        if isinstance(placement.block, Attention)
        else replace(placement, block=Spread(block=placement.block, positions=positions))
        if isinstance(placement.block, FeedForward)
        else placement
        for placement in placements
    )  # fmt: skip


def ratio(hyperparameters: Hyperparameters, name: str, default: float) -> float:
    """A factor above 0, such as the width of a scaled network; the default stands in for a missing or null key.

    Raises:
        ConfigError: when the key holds anything else.
    """
    value = hyperparameters.settings.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**20:
        read = f"{hyperparameters.source} has {name} = {repr(value)[:60]}"
        raise ConfigError(read, "a number above 0", "correct the key")
    return value


def divisible(value: float, divisor: int, least: int | None = None) -> int:
    """The multiple of `divisor` nearest to a scaled width, and not more than a tenth below it (Howard et al. 2017).

    Example:
        >>> divisible(33.6, 8), divisible(11.2, 8)
        (32, 16)
    """
    nearest = max(least or divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * value else nearest
