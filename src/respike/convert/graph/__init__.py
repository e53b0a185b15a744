"""The network as a graph of named operations: traced by torch.fx, batch norms folded."""
