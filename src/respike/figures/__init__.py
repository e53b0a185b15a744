"""Records and tables in, matplotlib figures out."""
