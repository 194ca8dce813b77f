"""Organizations, projects and API keys: who calls, and for which tenant."""
