"""The local page and the HTTP interface: thin shells over the same engine as the command line."""
