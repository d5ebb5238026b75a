"""Readers: from a file's header to the table of its tensors. Nothing here loads weights or runs what it reads."""
