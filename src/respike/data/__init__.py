"""Data sets and the Lightning data module that serves them in batches."""
