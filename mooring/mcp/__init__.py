"""The Model Context Protocol: a linked account's actions as tools, for agents (contract §2.8)."""
