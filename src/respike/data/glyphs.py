"""Digits of the fonts that matplotlib contains, as signed distance fields.

A distance field can be rotated, scaled and emboldened before it is rendered, at the sampling of the final image
(Green 2007, https://dl.acm.org/doi/10.1145/1281500.1281665). S = SIDE.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ft2font import FT2Font, LoadFlags
from scipy.ndimage import distance_transform_edt

from respike.errors import InputError

FAMILIES = {  # without cmmi10 and cmti10 of Computer Modern, which have old-style digits
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
EM = 120  # font size in pixels; digits are about 85 pixels high
SIDE = 160
UNIT = 16  # distances are in 1/16 pixel


def font_files(families: Sequence[str]) -> list[Path]:
    """The font files of some families, in that order. Raises InputError for a name that is not in FAMILIES."""
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        raise InputError(
            f"fonts {list(families)}: some of {', '.join(FAMILIES)} are needed, as in data.dataset.fonts=[sans,serif]"
        )
    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    return [folder / f"{file}.ttf" for name in families for file in FAMILIES[name]]


def distance_fields(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Distance fields int16 (fonts, 10, S, S), positive inside the digit, and the digits' heights int (fonts, 10) in pixels."""
    fields, heights = zip(*(_font(file) for file in files), strict=True)
    return np.stack(fields), np.stack(heights)


@cache
def _font(file: Path) -> tuple[np.ndarray, np.ndarray]:
    font = FT2Font(str(file))
    font.set_size(EM, 72)  # points at 72 per inch are pixels
    drawn = [_field(_bitmap(font, digit)) for digit in "0123456789"]
    return np.stack([field for field, _ in drawn]), np.array([height for _, height in drawn])


def _bitmap(font: FT2Font, digit: str) -> np.ndarray:
    """Bitmap of a digit, bool (height, width), cropped to its bounding box."""
    font.set_text(digit, 0.0, flags=LoadFlags.NO_HINTING)
    font.draw_glyphs_to_bitmap(antialiased=True)
    inside = np.asarray(font.get_image()) >= 128
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    return inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _field(inside: np.ndarray) -> tuple[np.ndarray, int]:
    """Signed distance to the outline in 1/UNIT pixels, int16 (S, S), of a centred bitmap; and the bitmap's height."""
    height, width = inside.shape
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    canvas = np.zeros((SIDE, SIDE), bool)
    canvas[top : top + height, left : left + width] = inside
    # the outline lies half a pixel from the last pixel inside and from the first outside
    signed = np.where(canvas, distance_transform_edt(canvas) - 0.5, 0.5 - distance_transform_edt(~canvas))
    return np.rint(signed * UNIT).astype(np.int16), height
