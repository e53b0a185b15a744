"""Accuracy in percent and loss after each epoch, for every part that was measured."""

import pytest

from respike.figures.training import training_progress


def lines_of(axes):
    return {line.get_label(): line for line in axes.get_lines()}


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


def test_a_single_epoch_is_one_tick():
    for axes in training_progress({"epoch": [1], "train_acc": [0.5], "train_loss": [1.2]}).axes:
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1]


def test_no_epoch_is_an_error():
    with pytest.raises(ValueError, match="expected at least one"):
        training_progress({"epoch": []})
