"""Alembic demands this file; migrations run through `runner.upgrade`, which needs none of its environment."""
