"""Mooring inside other applications."""
