"""Contract tests: official clients against a running hub."""
