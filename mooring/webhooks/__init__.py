"""Events and webhooks: what happened, and telling the endpoints of a project."""
