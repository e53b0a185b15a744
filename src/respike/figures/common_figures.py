"""What every run draws of itself, whatever its network: sample images, the training, names of classes; and where it goes."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from pytorch_lightning import Callback, Trainer

from respike.callbacks.log import log_figure
from respike.data.pixels import to_unit
from respike.errors import InputError
from respike.figures.curves import save
from respike.figures.images import samples
from respike.figures.training import training_progress
from respike.system.files import read_csv

SAMPLES = 12


def check_image(trainer: Trainer, image: int) -> None:
    """Refuse an image that is not there, with an InputError."""
    count = len(trainer.datamodule.index["test"])
    if not 0 <= image < count:
        raise InputError(f"callbacks.figures.image={image}: 0 to {count - 1}, the test images of this run")


def simulated_by(trainer: Trainer, record: type) -> Callback:
    """The callback that simulated the run, known by the kind of record that it keeps as `record`."""
    return next(callback for callback in trainer.callbacks if isinstance(getattr(callback, "record", None), record))


def class_names(trainer: Trainer, outputs: int) -> list[str]:
    """A name for every output: a network may have more of them than the data has classes."""
    names = list(trainer.datamodule.images.classes)
    return names + [f"output {c}" for c in range(len(names), outputs)]


def figures_of_any(trainer: Trainer) -> dict[str, Figure]:
    """Sample images, and the training where there was one."""
    data = trainer.datamodule
    chosen = data.index["test"][:SAMPLES]
    names = [data.images.classes[label] for label in data.labels("test")[:SAMPLES].tolist()]
    drawn = {"samples": samples(to_unit(data.images.test_images[chosen]), names)}
    return drawn | _of_training(Path(trainer.default_root_dir, "training.csv"))


def _of_training(history: Path) -> dict[str, Figure]:
    """Nothing for a run that trained nothing."""
    columns = read_history(history)
    return {"training": training_progress(columns)} if columns else {}


def read_history(history: Path) -> dict[str, list[float]]:
    """The columns of a training.csv; {} where nothing was trained."""
    return read_csv(history).to_dict("list") if history.is_file() else {}


def keep_figures(trainer: Trainer, figures: Mapping[str, Figure]) -> Path:
    """Write figures/<name>.png in the run's folder and give them to the logger. Returns the folder."""
    folder = Path(trainer.default_root_dir, "figures")
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        save(figure, folder / f"{name}.png")
        log_figure(trainer, name, folder / f"{name}.png")
    return folder
