"""Triton kernels of the fixed-point simulation: input spikes, and layers whose potentials stay in registers.

A program of a kernel computes some neurons of some images for all T steps: it sums the drive of a step, charges, fires,
resets, and writes one byte per neuron and step. Spikes are int8 (T, B, ...), images and neurons in torch's order. All
sums are of integers, in ACC (int32, or int64 if a bound requires it), so that no tile size changes a spike.
Only triton_backend.py imports this file, because Triton may not be installed. Functions of triton.language that are kernels
themselves (tl.zeros) are not used: PyTorch imports Triton before a test can switch on its interpreter.
"""

import triton
import triton.language as tl

INTERPRETED = triton.knobs.runtime.interpret  # TRITON_INTERPRET=1: numpy on the CPU instead of a GPU

# Arguments that Triton must not specialize on: it would compile one more kernel whenever they are 1 or divisible by 16.
VALUES = ["steps", "images", "threshold", "fires_at", "blocked", "dropped", "unit", "items", "stride"]


@triton.jit
def hash32(x):
    """lowbias32 of uint32 words, as in neurons/encode.py."""
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def integrate(v, waiting, drive, threshold, fires_at, blocked, SUBTRACT: tl.constexpr, REFRACTORY: tl.constexpr):
    """One step of neurons/integrate_fire.py, with the reset at its end: (potentials, blocked steps, spikes) after the step."""
    if REFRACTORY:
        drive = tl.where(waiting > 0, 0, drive)
    v += drive
    fired = v >= fires_at
    if REFRACTORY:
        fired = fired & (waiting <= 0)
        waiting = tl.where(fired, blocked, waiting - 1)
    v = tl.where(fired, v - threshold, v) if SUBTRACT else tl.where(fired, 0, v)
    return v, waiting, fired


@triton.jit(do_not_specialize=VALUES)
def encode(limits, first, second, fired, steps, images, pixels, SIZE: tl.constexpr):
    """Random input spikes (T, B, P) from limits int32 (B, P) and two int32 keys per image."""
    item = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    here = item < images * pixels
    image = item // pixels
    limit = tl.load(limits + item, here, other=0)
    low = tl.load(first + image, here, other=0).to(tl.uint32, bitcast=True)
    high = tl.load(second + image, here, other=0).to(tl.uint32, bitcast=True)
    counter = (item % pixels).to(tl.uint32)
    for _ in range(steps):
        draw = (hash32(hash32(counter ^ low) + high) >> 8).to(tl.int32)
        tl.store(fired + item, (draw < limit).to(tl.int8), here)
        counter += pixels
        fired += images * pixels


@triton.jit(do_not_specialize=VALUES)
def product(
    spikes, weights, bias, window, starts, fired, steps, images, threshold, fires_at, blocked, dropped,
    maps, padded_maps, padded_taps, sources, height, width, out_width, places, stride_y, stride_x, pad_y, pad_x,
    CONV: tl.constexpr, DIGITS: tl.constexpr, ROWS: tl.constexpr, MAPS: tl.constexpr, TAPS: tl.constexpr,
    ACC: tl.constexpr, SUBTRACT: tl.constexpr, REFRACTORY: tl.constexpr,
):  # fmt: skip
    """A Linear (CONV false: one place, a tap per source) or Conv2d layer: ROWS pairs of image and place, MAPS outputs.

    weights: int8 (DIGITS, padded maps, padded taps), base 256, lowest digit first; bias: ACC (padded maps). window:
    int32 (3, padded taps), y, x and source of each tap of a convolution, relative to the window's corner. starts: int64
    (neurons), potentials before the first step.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    out = tl.program_id(1) * MAPS + tl.arange(0, MAPS)
    image, place, here = row // places, row % places, row < images * places
    top, left = place // out_width * stride_y - pad_y, place % out_width * stride_x - pad_x
    corner = image * sources + top * width + left
    neuron = image[:, None] * (maps * places) + out[None, :] * places + place[:, None]
    kept = here[:, None] & (out < maps)[None, :]
    v = tl.load(starts + (out[None, :] * places + place[:, None]), kept, other=0).to(ACC)
    waiting = tl.full((ROWS, MAPS), 0, tl.int32)
    constant = tl.load(bias + out)[None, :]
    digit = padded_maps * padded_taps  # bytes of one digit of all weights
    for step in range(steps):
        part0 = tl.full((ROWS, MAPS), 0, tl.int32)
        part1 = tl.full((ROWS, MAPS), 0, tl.int32)
        part2 = tl.full((ROWS, MAPS), 0, tl.int32)
        for k in range(0, padded_taps, TAPS):
            tap = k + tl.arange(0, TAPS)
            if CONV:
                y = top[:, None] + tl.load(window + tap)[None, :]
                x = left[:, None] + tl.load(window + padded_taps + tap)[None, :]
                mask = here[:, None] & (y >= 0) & (y < height) & (x >= 0) & (x < width)
                source = corner[:, None] + tl.load(window + 2 * padded_taps + tap)[None, :]
            else:
                mask = here[:, None] & (tap < sources)[None, :]
                source = corner[:, None] + tap[None, :]
            seen = tl.load(spikes + source, mask, other=0)
            weight = weights + out[None, :] * padded_taps + tap[:, None]
            part0 = tl.dot(seen, tl.load(weight), part0, out_dtype=tl.int32)
            if DIGITS > 1:
                part1 = tl.dot(seen, tl.load(weight + digit), part1, out_dtype=tl.int32)
            if DIGITS > 2:
                part2 = tl.dot(seen, tl.load(weight + 2 * digit), part2, out_dtype=tl.int32)
        drive = part0.to(ACC) + constant
        if DIGITS > 1:
            drive += part1.to(ACC) * 256
        if DIGITS > 2:
            drive += part2.to(ACC) * 65536
        drive = tl.where(step < dropped, 0, drive)
        v, waiting, spike = integrate(v, waiting, drive, threshold, fires_at, blocked, SUBTRACT, REFRACTORY)
        tl.store(fired + neuron, spike.to(tl.int8), kept)
        spikes += images * sources
        fired += images * (maps * places)


@triton.jit(do_not_specialize=VALUES)
def pool(
    spikes, starts, fired, steps, images, threshold, fires_at, blocked, dropped, unit,
    channels, height, width, out_width, places, kernel_height, kernel_width, stride_y, stride_x, pad_y, pad_x,
    SIZE: tl.constexpr, ACC: tl.constexpr, SUBTRACT: tl.constexpr, REFRACTORY: tl.constexpr,
):  # fmt: skip
    """A pool that sums its window, each spike worth `unit`: SIZE neurons, counted over images, channels and places."""
    item = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    here = item < images * channels * places
    plane, place = item // places, item % places  # plane: image and channel
    top, left = place // out_width * stride_y - pad_y, place % out_width * stride_x - pad_x
    first = plane * (height * width)
    v = tl.load(starts + item % (channels * places), here, other=0).to(ACC)
    waiting = tl.full((SIZE,), 0, tl.int32)
    worth = tl.full((SIZE,), unit, ACC)
    for step in range(steps):
        count = tl.full((SIZE,), 0, tl.int32)
        for cell in range(kernel_height * kernel_width):
            y, x = top + cell // kernel_width, left + cell % kernel_width
            inside = here & (y >= 0) & (y < height) & (x >= 0) & (x < width)
            count += tl.load(spikes + (first + y * width + x), inside, other=0).to(tl.int32)
        drive = tl.where(step < dropped, 0, count.to(ACC) * worth)
        v, waiting, spike = integrate(v, waiting, drive, threshold, fires_at, blocked, SUBTRACT, REFRACTORY)
        tl.store(fired + item, spike.to(tl.int8), here)
        spikes += images * channels * (height * width)
        fired += images * channels * places


@triton.jit(do_not_specialize=VALUES)
def scan(
    drives, starts, fired, steps, items, neurons, threshold, fires_at, blocked, dropped, stride,
    SIZE: tl.constexpr, ACC: tl.constexpr, SUBTRACT: tl.constexpr, REFRACTORY: tl.constexpr,
):  # fmt: skip
    """Any layer from its drives, integers in float64 (T or 1, items): `stride` is 0 where they are constant in time."""
    item = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    here = item < items
    v = tl.load(starts + item % neurons, here, other=0).to(ACC)
    waiting = tl.full((SIZE,), 0, tl.int32)
    for step in range(steps):
        drive = tl.where(step < dropped, 0, tl.load(drives + item, here, other=0).to(ACC))
        v, waiting, spike = integrate(v, waiting, drive, threshold, fires_at, blocked, SUBTRACT, REFRACTORY)
        tl.store(fired + item, spike.to(tl.int8), here)
        drives += stride
        fired += items
