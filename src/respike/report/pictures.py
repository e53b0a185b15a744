"""The pictures that a page shows: those that a run drew, and those of a comparison."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

COLOURS = 128  # of a published chart
MORE_COLOURS = 256  # of a picture that needs them
VISIBLE = 16  # largest difference of a pixel from the original, of 255, above which a picture gets MORE_COLOURS
# File in the figures folder of a run -> what it shows. The report draws accuracy and rates itself.
CAPTIONS = {
    "samples.png": "Twelve test images.",
    "spikes.png": "A test image, its input spikes at three steps, and their mean.",
    "raster.png": "The spikes of a test image in all layers, each layer in its interval.",
    "spike_times.png": "When neurons spike within the interval of their layer, over several images.",
    "potentials.png": "Membrane potentials of some neurons, their thresholds and their input spikes.",
    "output_potentials.png": "Potentials of the output neurons up to the time they are read, and the predicted class.",
    "output_spikes.png": "Output spikes for that image, and the predicted class.",
    "output_currents.png": "Mean output currents for that image up to each step, and the predicted class.",
    "layer_rates.png": "Spikes per neuron of each layer for a test image, with the published ones.",
    "correlations.png": "How firing rates correlate with the ReLU network's activations, layer by layer, on a few images.",
    "rates_over_steps.png": "Spikes per neuron of each layer at each step, over the test images.",
    "rates_over_epochs.png": "Spikes per neuron and step of each layer during training, on validation images.",
    "membrane_potentials.png": "Membrane potentials of each layer against the threshold.",
    "training.png": "Training: accuracy and loss after each epoch.",
    "confusion.png": "Confusion matrices in % of the true class, after some of the steps.",
    "confusion.gif": "Confusion matrices after every step.",
}


@dataclass(frozen=True)
class Picture:
    """A picture on a page: the name of its file, what it shows in a sentence, and a heading."""

    file: str
    caption: str
    title: str = ""


def run_pictures(path: Path) -> list[Picture]:
    """The pictures of CAPTIONS that the run in the directory `path` drew, in that order."""
    return [Picture(name, caption) for name, caption in CAPTIONS.items() if (path / "figures" / name).is_file()]


def compact(folder: Path) -> None:
    """Give every PNG below the folder a palette of COLOURS colours, or of MORE_COLOURS where that would be visible."""
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            picture = None if image.mode == "P" else image.convert("RGB")
        if picture is None:
            continue
        copy = _with_palette(picture, COLOURS)
        difference = np.asarray(ImageChops.difference(picture, copy.convert("RGB")))
        if difference.max() > VISIBLE:
            copy = _with_palette(picture, MORE_COLOURS)
        copy.save(path, optimize=True)


def _with_palette(picture: Image.Image, colours: int) -> Image.Image:
    """The picture in so many colours, chosen for the widest range of them: the marker of a chart is a few pixels of many."""
    return picture.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
