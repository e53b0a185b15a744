"""A network read as a graph: traced, batch norms folded."""
