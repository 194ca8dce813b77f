"""Actions: named calls with typed inputs, run through linked accounts on the same road as the proxy."""
