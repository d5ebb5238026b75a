"""Convert: the same tensors, bit for bit, in other files."""
