"""Connect sessions, the Hub's JSON API, and the OAuth flow: how an end user links an account."""
