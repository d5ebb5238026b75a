"""Makes a model smaller, and lets the proof decide."""
