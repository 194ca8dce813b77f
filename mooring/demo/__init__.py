"""`mooring demo`: the main job end to end, with the sandbox as the provider. Nothing leaves the machine."""
