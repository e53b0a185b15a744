"""Pictures of the data: the pixels themselves, spikes as white pixels, the mean as bright as its brightest pixel."""

import warnings

import pytest
import torch

from respike.figures.images import output_counts, samples, spike_images
from respike.figures.style import PALETTE, save


def pictures(figure):
    return [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_show_every_image_under_its_name(channels):
    images = torch.rand(8, channels, 5, 7)
    figure = samples(images, list("abcdefgh"))
    shown = pictures(figure)
    assert [axes.get_title() for axes in figure.axes[:8]] == list("abcdefgh")
    for image, pixels in zip(images, shown, strict=True):
        expected = image[0] if channels == 1 else image.permute(1, 2, 0)
        torch.testing.assert_close(torch.as_tensor(pixels.data).float(), expected)


def test_no_sample_is_an_error():
    with pytest.raises(ValueError, match="expected at least one"):
        samples(torch.zeros(0, 1, 2, 2), [])


def test_spikes_are_those_of_the_steps_asked_for_and_the_mean_is_over_all():
    spikes = torch.zeros(4, 1, 2, 2)
    spikes[1, 0, 0, 0] = spikes[3, 0, 0, 0] = spikes[3, 0, 1, 1] = 1
    figure = spike_images(torch.full((1, 2, 2), 0.5), spikes, "a 3", [1, 2, 4])
    assert [axes.get_title() for axes in figure.axes] == [
        "a 3", "spikes, step 1", "spikes, step 2", "spikes, step 4", "mean of 4 steps",
    ]  # fmt: skip
    image, first, second, fourth, mean = (torch.as_tensor(picture.data).float() for picture in pictures(figure))
    assert (image == 0.5).all() and not first.any()
    assert second.tolist() == [[1, 0], [0, 0]] and fourth.tolist() == [[1, 0], [0, 1]]
    assert mean.tolist() == [[1, 0], [0, 0.5]]  # white where it spiked most


def test_an_image_without_a_spike_is_black():
    *_, mean = pictures(spike_images(torch.zeros(1, 2, 2), torch.zeros(4, 1, 2, 2), "a", [4]))
    assert not mean.any()


#                        class:  a  b  c
COUNTS = torch.tensor([[0, 0, 0], [0, 1, 0], [1, 2, 0], [2, 2, 0], [3, 2, 0]])


def lines_of(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_output_counts_are_drawn_per_class_and_the_class_with_most_is_predicted_ties_to_the_lowest():
    above, below = output_counts(COUNTS, 1, ["a", "b", "c"], "image 7").axes
    drawn = lines_of(above)
    assert drawn["b, true class"].get_ydata().tolist() == [0, 1, 2, 2, 2]
    assert drawn["a, predicted in the end"].get_ydata().tolist() == [0, 0, 1, 2, 3]
    assert drawn["_c"].get_ydata().tolist() == [0] * 5
    right, wrong = below.get_lines()
    assert dict(zip(right.get_xdata(), right.get_ydata(), strict=True)) == {2: 1, 3: 1}
    assert dict(zip(wrong.get_xdata(), wrong.get_ydata(), strict=True)) == {1: 0, 4: 0, 5: 0}
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["a", "b"]
    assert above.get_title(loc="left") == "image 7"


@pytest.mark.parametrize("analog", [False, True])
def test_output_counts_of_many_classes_name_a_few_and_draw_classes_side_by_side(analog, tmp_path):
    counts = torch.zeros(20, 300)
    counts[:, 250], counts[10:, 7] = 1, 2
    figure = output_counts(counts if analog else counts.int(), 250, [f"class{c}" for c in range(300)], "x")
    above, below = figure.axes
    assert max(len(text.get_text()) for text in above.texts) < 60 if analog else not above.texts
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["class7", "class250"]
    assert {y for line in below.get_lines() for y in line.get_ydata()} == {0, 1}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save(figure, tmp_path / "counts.png")


def test_currents_that_are_no_numbers_are_drawn_without_a_name():
    above, _ = output_counts(torch.tensor([[0.2, 1.0, torch.nan, 0.5]]), 1, ["a", "b", "c", "d"], "x").axes
    assert "d" in [text.get_text() for text in above.texts] and "c" not in [text.get_text() for text in above.texts]


def test_a_right_answer_is_one_bold_line():
    above, _ = output_counts(COUNTS, 0, ["a", "b", "c"], "x").axes
    bold = [line for line in above.get_lines() if line.get_color() == PALETTE[0]]
    assert [line.get_label() for line in bold] == ["a, true class"]
    assert not [line for line in above.get_lines() if line.get_color() == PALETTE[1]]
