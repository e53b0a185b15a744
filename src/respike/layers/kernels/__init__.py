"""tdBN, shortcut and LIF in one operation: compiled C for CPUs, Triton for GPUs."""
