"""Digits of the fonts that matplotlib ships, as fields of distances to their outline.

A distance field can be turned, scaled and made bolder before it is drawn, and needs no finer sampling than the image it
ends in: https://dl.acm.org/doi/10.1145/1281500.1281665 (Green 2007). S = SIDE.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font, LoadFlags
from scipy.ndimage import distance_transform_edt

from respike.errors import InputError

FAMILIES = {  # cmmi10 and cmti10, Computer Modern too, have digits of the old style
    "sans": ("DejaVuSans", "DejaVuSans-Oblique"),
    "mono": ("DejaVuSansMono", "DejaVuSansMono-Oblique"),
    "serif": ("DejaVuSerif", "DejaVuSerif-Italic"),
    "stix": ("STIXGeneral", "STIXGeneralItalic"),
    "cm": ("cmr10", "cmss10", "cmtt10"),
    "sans_bold": ("DejaVuSans-Bold", "DejaVuSans-BoldOblique"),
    "mono_bold": ("DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique"),
    "serif_bold": ("DejaVuSerif-Bold", "DejaVuSerif-BoldItalic"),
    "stix_bold": ("STIXGeneralBol", "STIXGeneralBolIta"),
    "cm_bold": ("cmb10",),
}
EM = 120  # pixels of the size a glyph is drawn in, its digits about 85 high
SIDE = 160
UNIT = 16  # of a distance: 1/16 of such a pixel


def font_files(families: Sequence[str]) -> list[Path]:
    """The files of the families named, in that order. Raises InputError for a name that is none of FAMILIES."""
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        raise InputError(
            f"fonts {list(families)}: some of {', '.join(FAMILIES)} are needed, as in data.dataset.fonts=[sans,serif]"
        )
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return [folder / f"{file}.ttf" for name in families for file in FAMILIES[name]]


def distance_fields(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Fields int16 (fonts, 10, S, S), above 0 inside the digit, and its heights int (fonts, 10) in pixels."""
    fields, heights = zip(*(_font(file) for file in files), strict=True)
    return np.stack(fields), np.stack(heights)


@cache
def _font(file: Path) -> tuple[np.ndarray, np.ndarray]:
    font = FT2Font(str(file))
    font.set_size(EM, 72)  # points at 72 per inch are pixels
    made = [_field(_bitmap(font, digit)) for digit in "0123456789"]
    return np.stack([field for field, _ in made]), np.array([height for _, height in made])


def _bitmap(font: FT2Font, digit: str) -> np.ndarray:
    """Bool (height, width), cut to the digit's own box."""
    font.set_text(digit, 0.0, flags=LoadFlags.NO_HINTING)
    font.draw_glyphs_to_bitmap(antialiased=True)
    inside = np.asarray(font.get_image()) >= 128
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _field(inside: np.ndarray) -> tuple[np.ndarray, int]:
    """Signed distance to the outline, in 1/UNIT pixels, of a bitmap put into the middle of S x S; and its height."""
    height, width = inside.shape
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas = np.zeros((SIDE, SIDE), bool)
    canvas[top : top + height, left : left + width] = inside
    # the outline runs between pixel centres: half a pixel from the last inside and from the first outside
    signed = np.where(canvas, distance_transform_edt(canvas) - 0.5, 0.5 - distance_transform_edt(~canvas))
    return np.rint(signed * UNIT).astype(np.int16), height
