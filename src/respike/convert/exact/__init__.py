"""From a ReLU network to spike times without loss (Stanojevic et al. 2023)."""
