"""The vocabulary that models are built from. A block owns all arithmetic of its part; a family only wires blocks.

Shapes are those of the reference implementation in PyTorch: a linear weight is (out_features, in_features). The names
here are those that transformers are built from; convolutions, recurrent layers and activations have modules beside.
"""

from weighbridge.model.blocks.attention import Attention
from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.blocks.cross_attention import CrossAttention
from weighbridge.model.blocks.embedding import Embedding
from weighbridge.model.blocks.experts import Experts
from weighbridge.model.blocks.feed_forward import FeedForward
from weighbridge.model.blocks.linear import Linear
from weighbridge.model.blocks.norm import Norm
from weighbridge.model.blocks.vector import Vector

__all__ = ["Attention", "Block", "CrossAttention", "Embedding", "Experts", "FeedForward", "Linear", "Norm",
           "State", "StateKind", "Use", "Vector", "Weight"]  # fmt: skip
