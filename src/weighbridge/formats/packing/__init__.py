"""How each method of quantization packs the weights of a checkpoint; `formats.packed` puts them to use."""
