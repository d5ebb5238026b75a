"""Rules: each knows one relation between quantities, asks the room that computes it, and knows no model by name."""
