"""What grows: each class its own line, the class named from the counts, and a training as its file tells it."""

import pytest
import torch

from respike.figures.curves import PALETTE
from respike.figures.training import output_counts, training_progress

#                        class:  a  b  c
COUNTS = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 2, 0], [2, 2, 0], [3, 2, 0]])


def lines_of(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_output_counts_are_drawn_per_class_and_name_the_class_with_most_ties_to_the_lowest():
    above, below = output_counts(COUNTS, 1, ["a", "b", "c"], "image 7").axes
    drawn = lines_of(above)
    assert drawn["b, true class"].get_ydata().tolist() == [0, 1, 2, 2, 2]
    assert drawn["a, class named in the end"].get_ydata().tolist() == [0, 0, 1, 2, 3]
    assert drawn["_c"].get_ydata().tolist() == [0] * 5
    right, wrong = below.get_lines()
    assert dict(zip(right.get_xdata(), right.get_ydata(), strict=True)) == {2: 1, 3: 1}
    assert dict(zip(wrong.get_xdata(), wrong.get_ydata(), strict=True)) == {1: 0, 4: 0, 5: 0}
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["a", "b"]
    assert above.get_title(loc="left") == "image 7"


def test_a_right_answer_is_one_bold_line():
    above, _ = output_counts(COUNTS, 0, ["a", "b", "c"], "x").axes
    bold = [line for line in above.get_lines() if line.get_color() == PALETTE[0]]
    assert [line.get_label() for line in bold] == ["a, true class"]
    assert not [line for line in above.get_lines() if line.get_color() == PALETTE[1]]


def test_training_progress_shows_accuracy_in_percent_and_loss_for_every_part_there_is():
    history = {"epoch": [1, 2], "train_acc": [0.5, 0.9], "train_loss": [1.2, 0.4], "val_acc": [0.6, 0.8]}
    accuracy, loss = training_progress(history).axes
    drawn = lines_of(accuracy)
    assert drawn["training, during the epoch: 90.00 %"].get_ydata() == pytest.approx([50, 90])
    assert drawn["validation: 80.00 %"].get_ydata() == pytest.approx([60, 80])
    assert lines_of(loss)["training, during the epoch: 0.4"].get_ydata() == pytest.approx([1.2, 0.4])
    assert len(loss.get_lines()) == 1 and loss.get_yscale() == "linear"


def test_a_loss_that_falls_far_is_drawn_on_a_logarithmic_axis():
    history = {"epoch": [1, 2], "train_acc": [0.5, 0.9], "train_loss": [1.2, 0.0004]}
    assert training_progress(history).axes[1].get_yscale() == "log"


def test_no_epoch_is_an_error():
    with pytest.raises(ValueError, match="expected at least one"):
        training_progress({"epoch": []})
