"""Run folders, and many runs: sweeps, searches, offline W&B runs."""
