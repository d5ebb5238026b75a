"""Weighbridge: what does a neural network weigh?"""

__version__ = "0.1.0"
