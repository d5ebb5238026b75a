"""How large a model, and on how many tokens? Published scaling laws, and laws fitted to the user's own runs."""
