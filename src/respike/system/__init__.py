"""What a run asks of its machine: processes, threads, compiler, caches, precision, provenance."""
