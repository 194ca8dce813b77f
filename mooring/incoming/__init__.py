"""Webhooks that providers send to us: verified, told from their repetitions, passed on as events."""
