"""Numbers read off a SpikeRecord."""
