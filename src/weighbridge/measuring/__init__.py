"""Models run on this machine, and what they did is held against what was predicted."""
