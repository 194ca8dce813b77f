"""Find anything of a project by what somebody remembers of it."""
