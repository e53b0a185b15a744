"""Figures: a record or a table in, a matplotlib figure out; and the callbacks that draw the figures of a run."""
