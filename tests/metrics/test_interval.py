"""The 95 % interval is Student's, as scipy computes it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from respike.metrics.interval import half_interval, student_interval


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9).filter(lambda values: np.std(values) > 1e-6))
def test_the_interval_is_that_of_scipy(values):
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert student_interval(values) == pytest.approx(expected)


def test_three_values_by_hand():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653
    assert half_interval([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)


def test_one_value_or_a_missing_one_has_no_interval():
    assert math.isnan(half_interval([0.5])) and math.isnan(half_interval([0.5, math.nan, 0.6]))
    assert half_interval([0.1, 0.1, 0.1]) == 0
