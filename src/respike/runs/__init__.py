"""Configs, run folders and many runs: composing and checking settings, presets, sweeps, searches, offline W&B runs."""
