"""The exact mapping of a ReLU network to spike times (Stanojevic et al. 2023)."""
