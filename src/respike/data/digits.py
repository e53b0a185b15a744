"""A data set of rendered digits: glyphs of fonts, randomly rotated, scaled, sheared, emboldened and shifted.

They need no download and are drawn in about a second. Pixels are computed in integers, so that a seed gives the same images
everywhere.
B images, P pixels per image, S side of a glyph's distance field.
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

from respike.data.datasets import ImageSet
from respike.data.glyphs import SIDE, distance_fields, font_files
from respike.data.random_stream import random_stream
from respike.errors import InputError
from respike.system.cache import cache_folder, cached_bytes

VERSION = 1  # part of the cache key; raise it if the same settings give other pixels
PIXELS = 28
HEIGHT = 20  # of a digit at scale 1, in pixels, as in MNIST
BATCH = 500


@dataclass(frozen=True)
class Distortion:
    """Ranges of the random changes, each drawn uniformly per image.

    rotation: up to so many degrees in either direction. scale: (from, to), relative to a height of 20 pixels. shear: up to
    so many horizontal pixels per vertical pixel, in either direction. stroke: (from, to) pixels added to the width of
    every line. shift: up to so many pixels in either direction.
    """

    rotation: float
    scale: tuple[float, float]
    shear: float
    stroke: tuple[float, float]
    shift: float


def digits(
    root: str | Path,
    rotation: float,
    scale: Sequence[float],
    shear: float,
    stroke: Sequence[float],
    shift: float,
    train_count: int = 5000,
    test_count: int = 5000,
    fonts: Sequence[str] = ("sans", "mono", "serif", "stix", "cm"),
    test_fonts: Sequence[str] | None = None,
    seed: int = 0,
) -> ImageSet:
    """Rendered digits: train_count + test_count images (N, 1, 28, 28), alternating classes. root is not read.

    rotation, scale, shear, stroke, shift: see `Distortion`. fonts: families of `glyphs.FAMILIES`. test_fonts: families of
    the test images, by default those of the training images. seed: gives two different random streams, one for the
    training and one for the test images. The pixels
    are cached, with a checksum, in the user's cache folder. Raises InputError for impossible sizes and ranges.
    """
    if min(train_count, test_count) < 10:
        raise InputError(
            f"data.dataset.train_count={train_count} data.dataset.test_count={test_count}: at least 10, one per class"
        )
    distortion = Distortion(rotation, _ends("scale", scale), shear, _ends("stroke", stroke), shift)
    families = {"train": tuple(fonts), "test": tuple(test_fonts or fonts)}
    files = {part: font_files(names) for part, names in families.items()}
    counts = {"train": train_count, "test": test_count}
    key = [VERSION, matplotlib.__version__, ft2font.__freetype_version__, asdict(distortion), counts, families, seed]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]

    def draw() -> bytes:
        return b"".join(_draw(part, counts[part], files[part], distortion, seed).tobytes() for part in counts)

    content = cached_bytes(cache_folder("digits") / f"{name}.uint8", draw)
    pixels = torch.frombuffer(bytearray(content), dtype=torch.uint8).view(-1, 1, PIXELS, PIXELS)
    labels = {part: torch.arange(count) % 10 for part, count in counts.items()}
    images = pixels[:train_count], labels["train"], pixels[train_count:], labels["test"]
    return ImageSet("rendered digits", *images, classes=tuple("0123456789"))


def _ends(name: str, ends: Sequence[float]) -> tuple[float, float]:
    """The two ends of a range. Raises InputError for other than two rising numbers, or a scale that is too small."""
    if len(ends) != 2 or ends[0] > ends[1] or (name == "scale" and ends[0] < 0.3):
        raise InputError(
            f"data.dataset.{name}={list(ends)}: from and to are needed, a scale of at least 0.3, "
            "as in data.dataset.scale=[0.8,1.1]"
        )
    return ends[0], ends[1]


def _draw(part: str, count: int, files: Sequence[Path], distortion: Distortion, seed: int) -> np.ndarray:
    """Images 0 .. count - 1 of "train" or "test", uint8 (count, 28, 28); image i shows the digit i % 10."""
    fields, heights = distance_fields(files)  # (fonts, 10, S, S), (fonts, 10)
    stream = random_stream("digits", part, seed)
    draws = torch.randint(1 << 16, (count, 7), generator=stream).numpy() / ((1 << 16) - 1)  # in [0, 1]
    font = np.minimum((draws[:, 6] * len(files)).astype(int), len(files) - 1)
    digit = np.arange(count) % 10
    glyph = font * 10 + digit
    fields, heights = fields.reshape(-1, SIDE, SIDE), heights.reshape(-1)[glyph]
    parts = [slice(start, start + BATCH) for start in range(0, count, BATCH)]
    return np.concatenate([_render(fields, glyph[b], heights[b], draws[b], distortion) for b in parts])


def _render(
    fields: np.ndarray, glyph: np.ndarray, heights: np.ndarray, draws: np.ndarray, distortion: Distortion
) -> np.ndarray:
    """Images uint8 (B, 28, 28) of the glyphs (B,). heights: of the glyphs in their fields (B,); draws: (B, 7) in [0, 1]."""
    size = distortion.scale[0] + (distortion.scale[1] - distortion.scale[0]) * draws[:, 1]
    zoom = heights / (HEIGHT * size)  # pixels of the field per pixel of the image
    x, y = _coordinates(zoom, draws, distortion)  # (B, P) each, in 1/65536 of a pixel of the field
    distance = _interpolate(fields, glyph, x, y) >> 12  # 1/256 of a pixel of the field
    bold = distortion.stroke[0] + (distortion.stroke[1] - distortion.stroke[0]) * draws[:, 3]
    slope = np.rint(255 * 256 / zoom).astype(np.int64)[:, None]  # the edge of a line is one pixel of grey
    ink = 128 + np.rint(255 * bold / 2).astype(np.int64)[:, None] + (distance * slope >> 16)
    return ink.clip(0, 255).astype(np.uint8).reshape(-1, PIXELS, PIXELS)


def _coordinates(zoom: np.ndarray, draws: np.ndarray, distortion: Distortion) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of the images' pixels in the fields: x, y int64 (B, P) in 1/65536 pixel."""
    signed = 2 * draws - 1
    angle, shear = np.deg2rad(distortion.rotation * signed[:, 0]), distortion.shear * signed[:, 2]
    shift = np.rint(64 * distortion.shift * signed[:, 4:6]).astype(np.int64)  # 1/64 pixel
    along = 64 * np.arange(PIXELS) - 32 * (PIXELS - 1)
    u = (along[None, None, :] - shift[:, 0, None, None] + 0 * along[:, None]).reshape(len(zoom), -1)
    v = (along[None, :, None] - shift[:, 1, None, None] + 0 * along).reshape(len(zoom), -1)
    turn = np.stack([np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)], axis=1)
    turn[:, :2] += shear[:, None] * turn[:, 2:]
    a = np.rint(1024 * zoom[:, None] * turn).astype(np.int64)[:, :, None]  # 1/1024: times u in 1/64 makes 1/65536
    centre = (SIDE - 1) << 15
    return a[:, 0] * u + a[:, 1] * v + centre, a[:, 2] * u + a[:, 3] * v + centre


def _interpolate(fields: np.ndarray, glyph: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of fields (G, S, S) at x, y (B, P): int64 (B, P) in 1/65536 of UNIT. Coordinates are clipped."""
    largest = (SIDE - 1 << 16) - 1
    x, y = x.clip(0, largest), y.clip(0, largest)
    right, down = x >> 8 & 255, y >> 8 & 255
    corner = (glyph[:, None] * SIDE + (y >> 16)) * SIDE + (x >> 16)
    flat = fields.reshape(-1)
    top = flat[corner] * (256 - right) + flat[corner + 1] * right
    bottom = flat[corner + SIDE] * (256 - right) + flat[corner + SIDE + 1] * right
    return top * (256 - down) + bottom * down
