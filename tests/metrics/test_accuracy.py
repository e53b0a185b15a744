"""Accuracy over time, agreement and time to a good answer, by hand."""

import pytest
import torch

from respike.metrics.accuracy import accuracy_metrics, correct_share, disagreements, steps_to_one_point


def test_accuracy_is_the_share_of_images_at_each_step(hand_made):
    assert correct_share(hand_made(), torch.tensor([2, 1])).tolist() == [0, 0.5, 1, 1]
    assert correct_share(hand_made(), torch.tensor([0, 0])).tolist() == [1, 0.5, 0, 0]


def test_steps_that_are_not_read_have_no_accuracy_and_are_no_good_answer(hand_made):
    record = hand_made(predicted=torch.tensor([[-1, -1], [-1, -1], [2, 1], [2, 1]], dtype=torch.int16), read_from=2)
    accuracy = correct_share(record, torch.tensor([2, 1]))
    assert accuracy[:2].isnan().all() and accuracy[2:].tolist() == [1, 1]
    measured = accuracy_metrics(record, torch.tensor([2, 1]), torch.tensor([2, 1]))
    assert (measured["snn/steps_to_1pct"], measured["snn/steps"], measured["snn/read_from"]) == (3, 4, 2)


CURVES = {
    "rising": ([0.1, 0.5, 0.9, 0.975, 0.98, 0.985], 4),
    "there at once": ([0.98, 0.98, 0.98], 1),
    "one step": ([0.3], 1),
    "exactly one point off": ([0.5, 0.97, 0.98], 2),
    "just more than a point off": ([0.5, 0.9699, 0.98], 3),
    "leaves again": ([0.97, 0.98, 0.5, 0.98], 4),
    "from above": ([1.0, 0.99, 0.975, 0.97], 3),
    "at the last step only": ([0.1, 0.2, 0.9], 3),
}


@pytest.mark.parametrize("curve", CURVES)
def test_steps_to_one_point_is_the_first_step_that_stays_within_one_point_of_the_last(curve):
    accuracy, step = CURVES[curve]
    assert steps_to_one_point(torch.tensor(accuracy, dtype=torch.float64)) == step


def test_disagreements_are_the_images_whose_two_classes_differ():
    index, labels = torch.tensor([40, 7]), torch.tensor([1, 1])
    ann, snn = torch.tensor([2, 0]), torch.tensor([2, 1])
    assert disagreements(index, labels, ann, snn) == {"index": [7], "label": [1], "ann": [0], "snn": [1]}
    both = disagreements(index, labels, torch.tensor([0, 2]), snn)
    assert both == {"index": [40, 7], "label": [1, 1], "ann": [0, 2], "snn": [2, 1]}
    assert disagreements(index, labels, snn, snn) == {"index": [], "label": [], "ann": [], "snn": []}


def test_all_accuracy_metrics(hand_made):
    assert accuracy_metrics(hand_made(), labels=torch.tensor([2, 0]), ann=torch.tensor([2, 0])) == {
        "ann/test_acc": 1.0,
        "snn/test_acc": 0.5,
        "snn/acc_drop": 0.5,
        "snn/agreement": 0.5,
        "snn/steps_to_1pct": 3,  # 0.5, 1, 0.5, 0.5
        "snn/time_to_1pct_ms": 1.5,
        "snn/steps": 4,
        "snn/read_from": 0,
    }


def test_a_spiking_network_may_be_better_than_its_source(hand_made):
    metrics = accuracy_metrics(hand_made(), labels=torch.tensor([2, 1]), ann=torch.tensor([2, 0]))
    assert (metrics["snn/acc_drop"], metrics["snn/agreement"]) == (-0.5, 0.5)
