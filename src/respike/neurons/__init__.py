"""Equations of single neurons and of input coding: pure functions of tensors."""
