"""NIR graphs (neuromorphic intermediate representation): `write` what is simulated here, `read` what others wrote."""
