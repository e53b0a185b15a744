"""Digits drawn on this machine in a second: fonts, turned, scaled, sheared, made bolder and shifted at random.

Pixels come out of integer arithmetic, so that a seed is the same images on every machine.
B images, P pixels of each, S the side of a glyph's field.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import ft2font

from respike.data.batches import random_stream
from respike.data.glyphs import SIDE, distance_fields, font_files
from respike.data.image_set import ImageSet
from respike.errors import InputError
from respike.system.cache import cache_folder, cached_bytes

VERSION = 1  # part of the cache key: raise it when the same settings would give other pixels
PIXELS = 28
HEIGHT = 20  # of a digit at scale 1, in pixels, as in MNIST
BATCH = 500


@dataclass(frozen=True)
class Hand:
    """What is done to each digit, uniformly at random.

    rotation: degrees to either side; scale: from, to, of a height of 20 pixels; shear: horizontal pixels per vertical
    pixel, to either side; stroke: pixels added to the width of every line, from, to; shift: pixels to either side.
    """

    rotation: float
    scale: tuple[float, float]
    shear: float
    stroke: tuple[float, float]
    shift: float


def digits(
    root: str | Path,
    rotation: float,
    scale: tuple[float, float],
    shear: float,
    stroke: tuple[float, float],
    shift: float,
    train_count: int = 5000,
    test_count: int = 5000,
    fonts: Sequence[str] = ("sans", "mono", "serif", "stix", "cm"),
    test_fonts: Sequence[str] | None = None,
    seed: int = 0,
) -> ImageSet:
    """Rendered digits, classes in turn: train_count + test_count images (N, 1, 28, 28). Nothing is read from root.

    rotation, scale, shear, stroke, shift: see `Hand`. fonts: families of `glyphs.FAMILIES`; test_fonts: those of the
    test images where they are to be others. Training and test images are different draws of `seed`. Drawn pixels are
    kept, with a checksum, in the user's cache. Raises InputError for sizes and ranges that cannot be.
    """
    hand = Hand(rotation, tuple(scale), shear, tuple(stroke), shift)
    _check(hand, train_count, test_count)
    families = {"train": tuple(fonts), "test": tuple(test_fonts or fonts)}
    files = {part: font_files(names) for part, names in families.items()}
    counts = {"train": train_count, "test": test_count}
    key = [VERSION, matplotlib.__version__, ft2font.__freetype_version__, asdict(hand), counts, families, seed]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]

    def draw() -> bytes:
        return b"".join(_draw(part, counts[part], files[part], hand, seed).tobytes() for part in counts)

    content = cached_bytes(cache_folder("digits") / f"{name}.uint8", draw)
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, 1, PIXELS, PIXELS)
    labels = {part: torch.arange(count) % 10 for part, count in counts.items()}
    images = pixels[:train_count], labels["train"], pixels[train_count:], labels["test"]
    return ImageSet("rendered digits", *images, classes=tuple("0123456789"))


def _check(hand: Hand, *counts: int) -> None:
    if min(counts) < 10:
        raise InputError(
            f"data.dataset.train_count={counts[0]} data.dataset.test_count={counts[1]}: at least 10, one of each class"
        )
    for name in ("scale", "stroke"):
        ends = getattr(hand, name)
        if len(ends) != 2 or ends[0] > ends[1] or (name == "scale" and ends[0] < 0.3):
            raise InputError(
                f"data.dataset.{name}={list(ends)}: from and to are needed, a scale of at least 0.3, "
                "as in data.dataset.scale=[0.8,1.1]"
            )


def _draw(part: str, count: int, files: Sequence[Path], hand: Hand, seed: int) -> np.ndarray:
    """Images 0 .. count - 1 of a part, uint8 (count, 28, 28); image i shows the digit i % 10."""
    fields, heights = distance_fields(files)  # (fonts, 10, S, S), (fonts, 10)
    stream = random_stream("digits", part, seed)
    draws = torch.randint(1 << 16, (count, 7), generator=stream).numpy() / ((1 << 16) - 1)  # in [0, 1]
    font = np.minimum((draws[:, 6] * len(files)).astype(int), len(files) - 1)
    digit = np.arange(count) % 10
    glyph = font * 10 + digit
    fields, heights = fields.reshape(-1, SIDE, SIDE), heights.reshape(-1)[glyph]
    parts = [slice(start, start + BATCH) for start in range(0, count, BATCH)]
    return np.concatenate([_ink(fields, glyph[b], heights[b], draws[b], hand) for b in parts])


def _ink(fields: np.ndarray, glyph: np.ndarray, heights: np.ndarray, draws: np.ndarray, hand: Hand) -> np.ndarray:
    """Images uint8 (B, 28, 28) of the glyphs (B,), `heights` (B,) high in their fields, by draws (B, 7) in [0, 1]."""
    size = hand.scale[0] + (hand.scale[1] - hand.scale[0]) * draws[:, 1]
    zoom = heights / (HEIGHT * size)  # pixels of the field per pixel of the image
    x, y = _places(zoom, draws, hand)  # (B, P) each, in 1/65536 of a pixel of the field
    distance = _between(fields, glyph, x, y) >> 12  # 1/256 of a pixel of the field
    bold = hand.stroke[0] + (hand.stroke[1] - hand.stroke[0]) * draws[:, 3]
    slope = np.rint(255 * 256 / zoom).astype(np.int64)[:, None]  # the edge of a line is one pixel of grey
    ink = 128 + np.rint(255 * bold / 2).astype(np.int64)[:, None] + (distance * slope >> 16)
    return ink.clip(0, 255).astype(np.uint8).reshape(-1, PIXELS, PIXELS)


def _places(zoom: np.ndarray, draws: np.ndarray, hand: Hand) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel of the images lies in the fields: x, y int64 (B, P) in 1/65536 pixel."""
    either = 2 * draws - 1
    angle, shear = np.deg2rad(hand.rotation * either[:, 0]), hand.shear * either[:, 2]
    shift = np.rint(64 * hand.shift * either[:, 4:6]).astype(np.int64)  # 1/64 pixel
    along = 64 * np.arange(PIXELS) - 32 * (PIXELS - 1)
    u = (along[None, None, :] - shift[:, 0, None, None] + 0 * along[:, None]).reshape(len(zoom), -1)
    v = (along[None, :, None] - shift[:, 1, None, None] + 0 * along).reshape(len(zoom), -1)
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], axis=1)
    turn[:, :2] += shear[:, None] * turn[:, 2:]
    a = np.rint(1024 * zoom[:, None] * turn).astype(np.int64)[:, :, None]  # 1/1024: times u in 1/64 makes 1/65536
    centre = (SIDE - 1) << 15
    return a[:, 0] * u + a[:, 1] * v + centre, a[:, 2] * u + a[:, 3] * v + centre


def _between(fields: np.ndarray, glyph: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear values int64 (B, P) of fields (G, S, S) at places (B, P), in 1/65536 of UNIT; beyond the rim, the rim."""
    x, y = (place.clip(0, (SIDE - 1 << 16) - 1) for place in (x, y))
    right, down = x >> 8 & 255, y >> 8 & 255
    corner = (glyph[:, None] * SIDE + (y >> 16)) * SIDE + (x >> 16)
    flat = fields.reshape(-1)
    top = flat[corner] * (256 - right) + flat[corner + 1] * right
    bottom = flat[corner + SIDE] * (256 - right) + flat[corner + SIDE + 1] * right
    return top * (256 - down) + bottom * down
