"""The authenticated call: the caller's request with the account's credential, streamed through the egress guard."""
