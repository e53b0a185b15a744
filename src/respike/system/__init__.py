"""The machine a run uses: processes, threads, compiler, files, caches, memory, precision, provenance."""
