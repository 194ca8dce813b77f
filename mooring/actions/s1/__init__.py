"""Run the actions of `.s1.yaml` files: their step functions, with the semantics of the format."""
