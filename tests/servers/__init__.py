"""The real servers that the tests run against, each a context manager; see scripts/install-test-deps."""
