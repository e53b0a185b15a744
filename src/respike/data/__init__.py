"""Images on disk to batches of tensors: data sets, and the Lightning module that serves them."""
