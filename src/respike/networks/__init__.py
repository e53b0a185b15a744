"""ReLU networks, and readers of the files in which authors publish theirs."""
