"""Is it still good? Paired measurements on the user's own data, and what they allow to conclude."""
