"""Linked accounts: who linked what, the sealed credential, and how it stays valid."""
