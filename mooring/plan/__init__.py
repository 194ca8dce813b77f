"""Plan and apply: what an operator sets up, in one file, compared with the hub and brought to it."""
