"""Grants: what an end user lets an assistant do with the accounts that the end user has linked (OAuth 2.1 for MCP)."""
