"""Random numbers that depend on a key alone."""

import hashlib

import torch


def random_stream(*key: int | str) -> torch.Generator:
    """A torch.Generator seeded with a hash of `key`: different keys give independent random numbers."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
