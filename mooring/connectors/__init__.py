"""The catalogue: connectors as data, their loader and their internal form."""
