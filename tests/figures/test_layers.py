"""Figures of layers, read back from what they draw."""

import numpy as np
import pytest
import torch

from respike.figures.layers import WIDEST, layer_rates, potential_panels, rate_map
from respike.figures.training import training_progress


def test_rates_stand_beside_published_ones_only_where_layers_are_as_many():
    rates = {"stem": 0.2, "fc": 0.5}
    heights = [patch.get_height() for patch in layer_rates(rates, "x", [0.1, 0.8]).axes[0].patches]
    assert heights == [0.2, 0.5, 0.1, 0.8]
    assert len(layer_rates(rates, "x", [0.1]).axes[0].patches) == len(layer_rates(rates, "x").axes[0].patches) == 2


def test_a_map_has_a_line_per_layer_a_column_per_step_and_numbers_while_they_can_be_read():
    axes = rate_map({"a": [0.1, 0.2], "b": [0.0, 0.4]}, [1, 2], "step", "").axes[0]
    np.testing.assert_allclose(axes.collections[0].get_array(), [[0.1, 0.2], [0.0, 0.4]])
    assert [text.get_text() for text in axes.texts] == [".100", ".200", ".000", ".400"]
    many = rate_map({"a": [0.1] * 40}, range(1, 41), "step", "").axes[0]
    assert not many.texts and len(many.get_xticks()) <= 13


def test_a_map_of_many_steps_is_not_wider_than_a_page():
    figure = rate_map({"a": [0.1] * 5000}, range(1, 5001), "step", "")
    axes = figure.axes[0]
    assert figure.get_figwidth() <= WIDEST and len(axes.get_xticks()) <= 13
    assert axes.get_xticklabels()[1].get_text() == str(round(axes.get_xticks()[1] + 0.5))


def test_potentials_above_the_threshold_are_named_as_a_share():
    figure = potential_panels({"a": torch.tensor([4, 3, 2, 1]), "b": torch.tensor([1, 0, 0, 0])}, 0.0, 0.8, 0.4, "")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a: 30.0 % fire", "b: 0.0 % fire"]


def test_published_epochs_are_open_markers_on_the_accuracies_alone():
    history = {"epoch": [1.0, 2.0], "val_acc": [0.5, 0.6], "val_loss": [2.0, 1.0]}
    accuracy, loss = training_progress(history, [0.7, 0.8, 0.9]).axes
    marks = accuracy.lines[-1]
    assert list(marks.get_xdata()) == [1, 2, 3] and list(marks.get_ydata()) == pytest.approx([70, 80, 90])
    assert len(loss.lines) == 1


def test_nothing_to_draw_is_an_error():
    for draw in (
        lambda: layer_rates({}, ""),
        lambda: rate_map({}, [], "", ""),
        lambda: potential_panels({}, 0, 1, 0.5, ""),
    ):
        with pytest.raises(ValueError, match="expected at least one"):
            draw()
