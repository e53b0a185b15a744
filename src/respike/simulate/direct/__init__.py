"""Evaluation of directly trained spiking networks."""
