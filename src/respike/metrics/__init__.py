"""Numbers computed from a record of a simulation."""
