"""Request logs: one redacted row per call."""
