"""Network architectures, and readers of the files in which authors publish trained networks."""
