"""Plumbing that knows nothing of the product."""
