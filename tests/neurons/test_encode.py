"""Input spikes: their rate, their independence, and that nothing but (seed, image, pixel, step) decides them."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from respike.errors import InputError
from respike.neurons.encode import (
    LEVELS,
    Current,
    Rate,
    Threshold,
    bernoulli_spikes,
    hash32,
    normal,
    stream_seed,
    uniform24,
)

DT = 0.001
SIGMAS = 5.5  # a fair draw exceeds this once in 26 million


def steps(count):
    return torch.arange(count)


def test_the_hash_is_lowbias32_in_unsigned_arithmetic():
    def lowbias32(x):
        x ^= x >> 16
        x = x * 0x7FEB352D & 0xFFFFFFFF
        x ^= x >> 15
        x = x * 0x846CA68B & 0xFFFFFFFF
        return x ^ x >> 16

    words = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, *range(0x9E3779B1, 0xFFFFFFFF, 0x01234567)]
    hashed = hash32(torch.tensor(words, dtype=torch.int64).to(torch.int32))
    assert (hashed.long() & 0xFFFFFFFF).tolist() == [lowbias32(word) for word in words]


@pytest.mark.parametrize("encode", [Rate(700.0), Rate(1500.0), Threshold(2.5)])
def test_a_pixel_spikes_with_its_probability_in_every_step(encode):
    """Probability min(1, x * max_rate * dt), or min(1, x / spike_threshold), within binomial bounds."""
    draws, pixels = 2000, torch.linspace(0, 1, 41, dtype=torch.float64)
    spikes = encode(pixels.expand(50, 1, 1, 41), torch.arange(50), steps(draws // 50), DT, seed=3)
    counts = spikes.sum((0, 1)).flatten()
    p = (pixels * (encode.max_rate * DT if isinstance(encode, Rate) else 1 / encode.spike_threshold)).clamp(max=1)
    assert ((counts - draws * p).abs() <= SIGMAS * (draws * p * (1 - p)).sqrt() + 1e-3).all()
    total, deviation = draws * p.sum(), (draws * p * (1 - p)).sum().sqrt()
    assert abs(counts.sum() - total) <= SIGMAS * deviation


def test_black_never_spikes_and_certainty_always_does():
    pixels = torch.tensor([0.0, 0.5, 1.0]).repeat(40, 1)
    spikes = Rate(2000.0)(pixels, torch.arange(40), steps(500), DT, seed=0)
    assert spikes.float().mean((0, 1)).tolist() == [0, 1, 1]


def test_the_lowest_draw_is_no_spike_of_black_and_the_highest_is_one_of_certainty():
    """Found by search: of 2^24 levels, level 0 falls on pixel 19 of 784 of image 95 at step 99, the top on another."""
    for image, step, pixel, level, value in ((95, 99, 19, 0, 0.0), (223, 83, 558, LEVELS - 1, 1.0)):
        index, at = torch.tensor([image]), torch.tensor([step])
        assert int(uniform24(index, at, 784, seed=0)[0, 0, pixel]) == level
        assert bool(Rate(1000.0)(torch.full((1, 784), value), index, at, DT, 0)[0, 0, pixel]) == value


@given(st.integers(-(2**40), 2**40), st.lists(st.integers(0, 70_000), min_size=2, max_size=6, unique=True), st.data())
def test_spikes_do_not_depend_on_how_the_work_is_cut(seed, numbers, data):
    index, pixels = torch.tensor(numbers), torch.rand(len(numbers), 1, 3, 4, generator=torch.Generator().manual_seed(1))
    encode, T = Rate(900.0), 9
    whole = encode(pixels, index, steps(T), DT, seed)  # (T, B, 1, 3, 4)
    order = torch.tensor(data.draw(st.permutations(range(len(numbers)))))
    assert torch.equal(encode(pixels[order], index[order], steps(T), DT, seed), whole[:, order])
    batch, step = data.draw(st.integers(1, len(numbers) - 1)), data.draw(st.integers(1, T - 1))
    for rows, times in ((slice(None, batch), slice(None, step)), (slice(batch, None), slice(step, None))):
        assert torch.equal(encode(pixels[rows], index[rows], steps(T)[times], DT, seed), whole[times, rows])


def signs(index, seed):
    """Spikes of probability one half as +-1: (T, B, P)."""
    return bernoulli_spikes(torch.full((len(index), 64), 0.5), index, steps(50), seed).double() * 2 - 1


def assert_uncorrelated(a, b):
    """The mean product of N independent signs has mean 0 and deviation 1 / sqrt(N)."""
    assert a.shape == b.shape
    assert abs((a * b).mean()) <= SIGMAS / math.sqrt(a.numel())


def test_steps_images_pixels_and_seeds_are_uncorrelated():
    ours = signs(torch.arange(100), seed=0)
    assert abs(ours.mean()) <= SIGMAS / math.sqrt(ours.numel())
    for lag in (1, 2, 7, 32):
        assert_uncorrelated(ours[lag:], ours[:-lag])
        assert_uncorrelated(ours[:, lag:], ours[:, :-lag])
        assert_uncorrelated(ours[:, :, lag:], ours[:, :, :-lag])
    assert_uncorrelated(ours[1:, :, :-1], ours[:-1, :, 1:])
    for seed in (1, 2, -1, 12345, 2**31, 2**32, 2**32 + 1):
        assert_uncorrelated(ours, signs(torch.arange(100), seed))
        assert_uncorrelated(ours[:, 1:], signs(torch.arange(99), seed))


def test_all_pairs_of_images_are_uncorrelated():
    ours = signs(torch.arange(150) * 400, seed=7).transpose(0, 1).flatten(1)  # (B, T * P)
    products = ours @ ours.T / ours.shape[1]
    products.fill_diagonal_(0)
    assert products.abs().max() <= (SIGMAS + 1) / math.sqrt(ours.shape[1])


def test_seeds_whose_keys_almost_meet_are_uncorrelated():
    """The first key of image i mixes i with seed * 0x9E3779B1: this seed and seed 0 share it at images i and i ^ 5."""
    seed = 5 * pow(0x9E3779B1, -1, 2**32) % 2**32
    index = torch.arange(100)
    assert_uncorrelated(signs(index, 0), signs(index ^ 5, seed))
    assert_uncorrelated(signs(index, 0), signs(index, seed))


@pytest.mark.parametrize("shift", [16, 8, 0])
def test_draws_are_uniform_in_their_high_middle_and_low_bits(shift):
    """Pearson's statistic over 256 equal bins, two-sided at one in a million."""
    draws = uniform24(torch.arange(40), steps(40), 196, seed=11)
    assert draws.min() >= 0 and draws.max() < LEVELS
    counts = ((draws >> shift) & 255).flatten().bincount(minlength=256).double()
    mean = counts.sum() / 256
    statistic = float(((counts - mean) ** 2 / mean).sum())
    assert chi2.ppf(1e-6, 255) < statistic < chi2.isf(1e-6, 255)


@pytest.mark.parametrize("spike_threshold", [0.8, 1.0, 2.5, 4.0, 7.0])
@pytest.mark.parametrize("dt", [0.001, 0.0005])
def test_a_spike_threshold_is_a_rate_spike_for_spike(spike_threshold, dt):
    """The MathWorks coding at 2.5 is 400 Hz at 1 ms."""
    images, index = torch.rand(8, 1, 9, 7, generator=torch.Generator().manual_seed(0)), torch.arange(8)
    by_threshold = Threshold(spike_threshold)(images, index, steps(30), dt, 5)
    assert torch.equal(by_threshold, Rate(1 / (spike_threshold * dt))(images, index, steps(30), dt, 5))
    assert by_threshold.any() and not by_threshold.all()


def test_a_current_is_the_pixel_times_its_gain_at_every_step_whatever_the_seed():
    images = torch.rand(4, 1, 3, 3)
    for seed in (0, 1):
        assert torch.equal(Current(2.5)(images, torch.arange(4), steps(10), DT, seed)[0], images * 2.5)


@pytest.mark.parametrize("bad", [0, -1.0, float("nan")])
@pytest.mark.parametrize(("code", "key"), [(Rate, "max_rate"), (Threshold, "spike_threshold"), (Current, "gain")])
def test_a_parameter_that_is_not_positive_is_refused_by_its_yaml_name(code, key, bad):
    with pytest.raises(InputError, match=rf"^encode\.{key}={bad}.*encode\.{key}=") as error:
        code(bad)
    assert "\n" not in str(error.value)


def test_normal_deviates_are_standard_normal():
    """Mean, deviation, and Pearson's statistic over 64 equally likely bins, two-sided at one in a million."""
    draws = normal(torch.arange(200), 1000, stream_seed(0, 0, "time", "conv1"))
    n = draws.numel()
    assert abs(float(draws.mean())) < SIGMAS / math.sqrt(n) and abs(float(draws.var()) - 1) < SIGMAS * math.sqrt(2 / n)
    counts = (torch.special.ndtr(draws) * 64).long().flatten().bincount(minlength=64).double()
    statistic = float(((counts - n / 64) ** 2 / (n / 64)).sum())
    assert chi2.ppf(1e-6, 63) < statistic < chi2.isf(1e-6, 63)
    assert abs(float(draws[:, 1:].flatten() @ draws[:, :-1].flatten()) / n) < SIGMAS / math.sqrt(n)
    assert abs(float((draws[1:] * draws[:-1]).mean())) < SIGMAS / math.sqrt(n)


def test_normal_deviates_are_a_function_of_key_image_and_position():
    seed, index = stream_seed(1, 2, "time", "fc1"), torch.tensor([7, 70_000, 3])
    whole = normal(index, 50, seed)
    assert torch.equal(normal(index.flip(0), 50, seed), whole.flip(0))
    assert torch.equal(normal(index[1:2], 50, seed), whole[1:2])
    for key in ((2, 2, "time", "fc1"), (1, 3, "time", "fc1"), (1, 2, "alpha", "fc1"), (1, 2, "time", "fc2")):
        assert_uncorrelated(normal(torch.arange(50), 50, stream_seed(*key)), normal(torch.arange(50), 50, seed))
