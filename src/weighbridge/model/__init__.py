"""The description of a model: what it is made of, before any file or machine is looked at."""
