"""Modules that run a neuron over all T steps at once: x_TBCHW, time first."""
