"""What Mooring costs, measured beside nginx in the same run. Start it with `python -m bench`."""
