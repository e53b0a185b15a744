"""The functions of norm_lif.c in Triton. A program computes ROWS places and COLUMNS channels for all T steps.

y[t][place][channel], channels last, in bfloat16, float16 or float32; sums are written as one float32 row per program and
added in float64. Only triton_backend.py imports this file, because Triton may not be installed. Functions of triton.language
that are kernels themselves (tl.sum, tl.zeros) are not used: PyTorch imports Triton before a test can switch on its interpreter.
"""

import triton
import triton.language as tl

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1: numpy on the CPU instead of a GPU
# The argument changes with the batch. Triton would compile one more kernel whenever it is 1 or divisible by 16.
VALUES = ["places"]


@triton.jit
def add(x, y):
    """The sum of two numbers, for tl.reduce."""
    return x + y


@triton.jit
def surrogate(x, a, SHAPE: tl.constexpr):
    """h at the distance x from its centre."""
    if SHAPE == "rectangle":
        return tl.where(tl.abs(x) < a, 0.5 / a, 0.0)
    elif SHAPE == "triangle":
        h = 1 - tl.abs(x) / a
        return tl.where(h > 0, h / a, 0.0)
    elif SHAPE == "sigmoid":
        s = 1 / (1 + tl.exp(-a * x))
        return a * s * (1 - s)
    else:
        z = 1.5707963267948966 * a * x
        return a / 2 / (1 + z * z)


@triton.jit
def tile(places, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The program's channels, masks of channels and of elements, the elements' offsets, and the stride between steps."""
    place = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    known = channel < channels
    here = (place < places)[:, None] & known[None, :]
    at = place.to(tl.int64)[:, None] * channels + channel[None, :]
    return channel, known, here, at, places.to(tl.int64) * channels


@triton.jit
def vector(values, channel, known):
    """One number per channel, as a row."""
    return tl.load(values + channel, known, other=0)[None, :]


@triton.jit
def integrate(
    y, shortcut, scale, shift, shortcut_scale, shortcut_shift, channel, known, here, at, stride, v_th, tau,
    STEPS: tl.constexpr, KIND: tl.constexpr, CONSTANT: tl.constexpr, SOFT: tl.constexpr,
):  # fmt: skip
    """Potentials of all steps: a tuple of (ROWS, COLUMNS)."""
    factor, summand = vector(scale, channel, known), vector(shift, channel, known)
    other_factor, other_summand = vector(shortcut_scale, channel, known), vector(shortcut_shift, channel, known)
    potentials = ()
    before = tl.where(here, 0.0, 0.0)
    for t in tl.static_range(STEPS):
        z = tl.load(y + at + (0 if CONSTANT else t * stride), here, other=0).to(tl.float32) * factor + summand
        if KIND == "spikes":
            z += tl.load(shortcut + at + t * stride, here, other=0).to(tl.float32)
        if KIND == "normed":
            other = tl.load(shortcut + at + t * stride, here, other=0).to(tl.float32)
            z += other * other_factor + other_summand
        u = tau * before + z
        potentials = potentials + (u,)  # type: ignore[assignment]  # noqa: RUF005
        before = tl.where(u > v_th, u - v_th if SOFT else 0.0, u)
    return potentials


@triton.jit
def reverse(
    gradient, at, here, stride, potentials, v_th, tau, centre, a,
    STEPS: tl.constexpr, SHAPE: tl.constexpr, SOFT: tl.constexpr, DETACH: tl.constexpr,
):  # fmt: skip
    """dL/du of all steps, the last first: a tuple of (ROWS, COLUMNS)."""
    found = ()
    later = tl.where(here, 0.0, 0.0)
    for i in tl.static_range(STEPS):
        u = potentials[STEPS - 1 - i]
        into = tl.load(gradient + at + (STEPS - 1 - i) * stride, here, other=0).to(tl.float32)
        if not DETACH:
            into -= tau * later * (v_th if SOFT else u)
        through = tau * later if SOFT else tl.where(u > v_th, 0.0, tau * later)
        later = tl.where(here, into * surrogate(u - centre, a, SHAPE) + through, 0.0)
        found = found + (later,)  # type: ignore[assignment]  # noqa: RUF005
    return found


@triton.jit(do_not_specialize=VALUES)
def moments(y, sums, places, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """sums[program][0 or 1][channel] of y minus y's first row, and of its square."""
    channel, known, here, at, _ = tile(places, channels, ROWS, COLUMNS)
    pivot = tl.load(y + channel, known, other=0).to(tl.float32)[None, :]
    x = tl.load(y + at, here, other=0).to(tl.float32)
    x = tl.where(here, x - pivot, 0.0)
    out = sums + tl.program_id(0) * 2 * channels + channel
    tl.store(out, tl.reduce(x, 0, add), known)
    tl.store(out + channels, tl.reduce(x * x, 0, add), known)


@triton.jit(do_not_specialize=VALUES)
def forward(
    y, shortcut, scale, shift, shortcut_scale, shortcut_shift, spikes, places, channels, v_th, tau,
    STEPS: tl.constexpr, KIND: tl.constexpr, CONSTANT: tl.constexpr, SOFT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """spikes[t][place][channel], 0 or 1."""
    channel, known, here, at, stride = tile(places, channels, ROWS, COLUMNS)
    potentials = integrate(
        y, shortcut, scale, shift, shortcut_scale, shortcut_shift, channel, known, here, at, stride, v_th, tau,
        STEPS, KIND, CONSTANT, SOFT,
    )  # fmt: skip
    for t in tl.static_range(STEPS):
        fired = tl.where(potentials[t] > v_th, 1.0, 0.0)
        tl.store(spikes + at + t * stride, fired.to(spikes.dtype.element_ty), here)


@triton.jit(do_not_specialize=VALUES)
def backward_sums(
    y, shortcut, scale, shift, shortcut_scale, shortcut_shift, gradient, mean, shortcut_mean, to_shortcut, sums,
    places, channels, v_th, tau, centre, a,
    STEPS: tl.constexpr, KIND: tl.constexpr, CONSTANT: tl.constexpr, SOFT: tl.constexpr,
    SHAPE: tl.constexpr, DETACH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """sums[program][0, 1, 2][channel] of d = dL/du, d (y - mean), d (shortcut - mean); d itself to a shortcut of spikes."""
    channel, known, here, at, stride = tile(places, channels, ROWS, COLUMNS)
    potentials = integrate(
        y, shortcut, scale, shift, shortcut_scale, shortcut_shift, channel, known, here, at, stride, v_th, tau,
        STEPS, KIND, CONSTANT, SOFT,
    )  # fmt: skip
    found = reverse(gradient, at, here, stride, potentials, v_th, tau, centre, a, STEPS, SHAPE, SOFT, DETACH)
    total = tl.where(here, 0.0, 0.0)
    with_y, with_shortcut = total, total
    for t in tl.static_range(STEPS):
        d = found[STEPS - 1 - t]
        total += d
        value = tl.load(y + at + (0 if CONSTANT else t * stride), here, other=0).to(tl.float32)
        with_y += d * (value - vector(mean, channel, known))
        if KIND == "normed":
            other = tl.load(shortcut + at + t * stride, here, other=0).to(tl.float32)
            with_shortcut += d * (other - vector(shortcut_mean, channel, known))
        if KIND == "spikes":
            tl.store(to_shortcut + at + t * stride, d.to(to_shortcut.dtype.element_ty), here)
    out = sums + tl.program_id(0) * 3 * channels + channel
    tl.store(out, tl.reduce(total, 0, add), known)
    tl.store(out + channels, tl.reduce(with_y, 0, add), known)
    if KIND == "normed":
        tl.store(out + 2 * channels, tl.reduce(with_shortcut, 0, add), known)


@triton.jit(do_not_specialize=VALUES)
def backward(
    y, shortcut, scale, shift, shortcut_scale, shortcut_shift, gradient, mean, shortcut_mean, slope, shortcut_slope,
    offset, shortcut_offset, to_y, to_shortcut, places, channels, v_th, tau, centre, a,
    STEPS: tl.constexpr, KIND: tl.constexpr, CONSTANT: tl.constexpr, SOFT: tl.constexpr,
    SHAPE: tl.constexpr, DETACH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """to_y = scale d - slope (y - mean) - offset, summed over time if y is constant; to_shortcut likewise where normed."""
    channel, known, here, at, stride = tile(places, channels, ROWS, COLUMNS)
    potentials = integrate(
        y, shortcut, scale, shift, shortcut_scale, shortcut_shift, channel, known, here, at, stride, v_th, tau,
        STEPS, KIND, CONSTANT, SOFT,
    )  # fmt: skip
    found = reverse(gradient, at, here, stride, potentials, v_th, tau, centre, a, STEPS, SHAPE, SOFT, DETACH)
    total = tl.where(here, 0.0, 0.0)
    for t in tl.static_range(STEPS):
        d = found[STEPS - 1 - t]
        value = tl.load(y + at + (0 if CONSTANT else t * stride), here, other=0).to(tl.float32)
        to = vector(scale, channel, known) * d - vector(slope, channel, known) * (value - vector(mean, channel, known))
        to -= vector(offset, channel, known)
        total += to
        if not CONSTANT:
            tl.store(to_y + at + t * stride, to.to(to_y.dtype.element_ty), here)
        if KIND == "normed":
            other = tl.load(shortcut + at + t * stride, here, other=0).to(tl.float32)
            to = vector(shortcut_scale, channel, known) * d
            to -= vector(shortcut_slope, channel, known) * (other - vector(shortcut_mean, channel, known))
            to -= vector(shortcut_offset, channel, known)
            tl.store(to_shortcut + at + t * stride, to.to(to_shortcut.dtype.element_ty), here)
    if CONSTANT:
        tl.store(to_y + at, total.to(to_y.dtype.element_ty), here)
