"""Equations of single neurons and of input coding, as pure functions of tensors."""
