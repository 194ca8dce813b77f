"""Leaving and arriving: encrypted bundles of accounts between hubs, and lists of tokens from elsewhere."""
