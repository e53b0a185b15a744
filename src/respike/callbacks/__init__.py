"""Hooks at the end of a test: convert, simulate, log."""
