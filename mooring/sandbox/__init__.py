"""The sandbox: a provider simulator that ships with Mooring, for the demo, for tests and for learning."""
