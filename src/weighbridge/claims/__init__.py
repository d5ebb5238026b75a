"""Is a published number right? Claims are read, worked out again by the other rooms, and held against each other."""
