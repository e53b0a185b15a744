"""Confusion: every image is counted once, rows are shares, and the diagonal is the accuracy."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from respike.metrics.confusion import confusion, row_shares


@st.composite
def answers(draw):
    classes = draw(st.integers(2, 12))
    named = st.lists(st.tuples(*[st.integers(0, classes - 1)] * 2), min_size=1, max_size=60)
    return classes, *torch.tensor(draw(named)).T


@given(answers())
def test_every_image_stands_in_the_row_of_its_class_and_the_column_of_the_class_named(given):
    classes, labels, predicted = given
    counts = confusion(labels, predicted.to(torch.int16), classes)
    assert counts.shape == (classes, classes) and counts.sum() == len(labels)
    by_hand = torch.zeros(classes, classes, dtype=torch.int64)
    for i, j in zip(labels.tolist(), predicted.tolist(), strict=True):
        by_hand[i, j] += 1
    assert torch.equal(counts, by_hand)


@given(answers())
def test_rows_sum_to_1_and_the_diagonal_weighted_by_the_classes_is_the_accuracy(given):
    classes, labels, predicted = given
    shares, sizes = row_shares(confusion(labels, predicted, classes)), torch.bincount(labels, minlength=classes)
    torch.testing.assert_close(shares.sum(1), (sizes > 0).double())
    accuracy = (labels == predicted).double().mean()
    torch.testing.assert_close((shares.diagonal() * sizes).sum() / len(labels), accuracy)
