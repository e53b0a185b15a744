"""tdBN and LIF in one pass: compiled C for CPUs, Triton for GPUs."""
