"""The pictures a run drew of itself, as the page shows them."""

from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from respike.report.collect import Run

# file in the run's figures/ -> what it shows; accuracy and rates are drawn anew for the report
CAPTIONS = {
    "samples.png": "Twelve test images.",
    "spikes.png": "A test image, its input spikes at three steps, and their mean.",
    "raster.png": "The spikes of a test image in all layers, each in its interval.",
    "spike_times.png": "When neurons spike within their layer's interval, over several images.",
    "potentials.png": "Membrane potentials of some neurons, their thresholds, their input spikes.",
    "output_potentials.png": "Potentials of the output neurons up to their reading, and the class they name.",
    "output_spikes.png": "Output spikes of that image, and the class they name.",
    "layer_rates.png": "Spikes per neuron of each layer for a test image, beside the published ones.",
    "rates_over_steps.png": "Spikes per neuron of each layer at each step, over the test images.",
    "rates_over_epochs.png": "Spikes per neuron and step of each layer over the training, on validation images.",
    "membrane_potentials.png": "Membrane potentials of each layer against the threshold.",
    "training.png": "Training: accuracy and loss after each epoch.",
    "confusion.png": "Which class is taken for which, in % of the true class, after some of the steps.",
    "confusion.gif": "The same after every step.",
}


@dataclass(frozen=True)
class Picture:
    """path: the file; alt: what it shows, in one sentence."""

    path: Path
    alt: str


def run_pictures(run: Run) -> list[Picture]:
    """Those of CAPTIONS that the run drew, in that order."""
    folder = run.path / "figures"
    return [Picture(folder / name, alt) for name, alt in CAPTIONS.items() if (folder / name).is_file()]


def compact(folder: Path) -> None:
    """Give every PNG below the folder a palette of 256 colours: two fifths of the bytes, and charts look the same."""
    for path in folder.rglob("*.png"):
        with Image.open(path) as image:
            picture = None if image.mode == "P" else image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
        if picture is not None:
            picture.save(path, optimize=True)
