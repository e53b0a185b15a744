"""Confusion charts: every cell says its share, and the film has a frame per step that ends on the last one."""

import pytest
import torch
from PIL import Image

from respike.figures.confusion import chosen_steps, confusion_charts, percent, save_confusion_film

NAMES = ["zero", "one", "two"]


def test_chosen_steps_are_those_of_the_example_for_40_and_never_0():
    assert chosen_steps(40) == [5, 10, 20, 40]
    assert chosen_steps(1) == [1]
    assert chosen_steps(3) == [1, 2, 3]


def test_cells_hold_percent_of_their_row_and_the_true_class_is_down():
    shares = torch.tensor([[1.0, 0.0, 0.0], [0.125, 0.875, 0.0], [0.0004, 0.0, 0.9996]]).double()
    figure = confusion_charts({"step 5": shares, "step 40": torch.eye(3).double()}, NAMES)
    first, second = figure.axes
    assert [axes.get_title() for axes in (first, second)] == ["step 5", "step 40"]
    assert (first.collections[0].get_array() == shares.numpy()).all() and first.yaxis_inverted()
    texts = {tuple(int(place) for place in reversed(text.get_position())): text.get_text() for text in first.texts}
    assert texts[1, 0] == "12.5" and texts[1, 1] == "87.5" and texts[2, 0] == "" and texts[0, 0] == "100"
    assert (first.get_ylabel(), first.get_xlabel()) == ("true class", "predicted class")
    assert [tick.get_text() for tick in first.get_yticklabels()] == NAMES


def test_what_is_not_all_is_not_rounded_to_all():
    (axes,) = confusion_charts({"a": torch.tensor([[2999 / 3000, 1 / 3000], [0.0, 1.0]]).double()}, ["a", "b"]).axes
    assert [text.get_text() for text in axes.texts] == ["99.9", "", "", "100"]
    assert [percent(share) for share in (1.0, 49_999 / 50_000, 0.5)] == ["100.00 %", "99.99 %", "50.00 %"]


def test_a_dollar_in_the_name_of_a_class_begins_no_formula(tmp_path):
    names = ["a$^$", "b$x$"]
    (axes,) = confusion_charts({"a": torch.eye(2).double()}, names).axes
    assert [tick.get_text() for tick in axes.get_xticklabels()] == names
    predicted, labels = torch.tensor([[0, 1]]), torch.tensor([0, 1])
    save_confusion_film(predicted, labels, names, tmp_path / "film.gif")
    assert (tmp_path / "film.gif").stat().st_size


def test_many_classes_are_coloured_without_numbers():
    (axes,) = confusion_charts({"a": torch.eye(100).double()}, [str(c) for c in range(100)]).axes
    assert not axes.texts


def test_without_charts_there_is_an_error():
    with pytest.raises(ValueError, match="expected at least one"):
        confusion_charts({}, NAMES)


LABELS = torch.tensor([0, 1, 2, 2])
WRONG = torch.tensor([1, 2, 0, 0])


def film(path, predicted):
    save_confusion_film(predicted, LABELS, NAMES, path)
    frames = []
    with Image.open(path) as gif:
        for k in range(gif.n_frames):
            gif.seek(k)
            frames.append((gif.convert("RGB").tobytes(), gif.info["duration"]))
    return frames


@pytest.mark.parametrize(("steps", "frames"), [(1, 1), (6, 6), (45, 40)])
def test_the_film_has_a_frame_per_step_up_to_forty_and_rests_on_the_last(tmp_path, steps, frames):
    shown = film(tmp_path / "a.gif", WRONG.repeat(steps, 1))
    assert len(shown) == frames
    assert shown[-1][1] == 2000 and all(duration == 120 for _, duration in shown[:-1])
    assert [path.name for path in tmp_path.iterdir()] == ["a.gif"]


def test_a_frame_shows_the_answers_after_its_own_step(tmp_path):
    late = film(tmp_path / "a.gif", torch.stack([WRONG, WRONG, LABELS]))
    early = film(tmp_path / "b.gif", torch.stack([WRONG, LABELS, LABELS]))
    assert [a == b for (a, _), (b, _) in zip(late, early, strict=True)] == [True, False, True]
