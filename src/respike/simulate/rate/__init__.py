"""Time-stepped simulation of rate-coded networks."""
