"""What follows from a description: sums over its three lists. Nothing here reads a file."""
