"""The machines: what their makers specify, and what was measured on them."""
