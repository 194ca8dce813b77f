"""Auth configs: a project's set-up of one auth method of one connector."""
