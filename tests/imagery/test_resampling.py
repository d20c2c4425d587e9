from typing import Any

import numpy as np
from fixture_types import Noise
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from geo_retina.imagery.resampling import Taps, find_taps, resample

Array = NDArray[Any]


def whole(samples: Array, valid: Array, *, step: float) -> tuple[Array, Array]:
    _, height, width = samples.shape
    rows = find_taps(0, max(1, round(height / step)), step=step, origin=0, length=height)
    cols = find_taps(0, max(1, round(width / step)), step=step, origin=0, length=width)
    return resample(samples, valid, rows=rows, cols=cols)


def cut(samples: Array, taps_y: Taps, taps_x: Taps) -> Array:
    return samples[..., taps_y.start : taps_y.stop, taps_x.start : taps_x.stop]


def test_whole_factor_is_block_mean() -> None:
    samples = np.arange(6 * 8, dtype=np.float32).reshape(1, 6, 8)
    out, valid = whole(samples, np.ones((6, 8), bool), step=2.0)
    np.testing.assert_allclose(out[0], samples[0].reshape(3, 2, 4, 2).mean(axis=(1, 3)))
    assert valid.all()


def test_area_weights_are_covered_lengths() -> None:
    taps = find_taps(1, 2, step=2.5, origin=0.0, length=100)
    assert (taps.start, taps.stop) == (2, 5)
    np.testing.assert_allclose(taps.weight, [[0.5 / 2.5, 1 / 2.5, 1 / 2.5]])


def test_enlarging_interpolates_between_centres() -> None:
    samples = np.array([[[0.0, 10.0]]], np.float32)
    out, _ = whole(samples, np.ones((1, 2), bool), step=0.5)
    np.testing.assert_allclose(out[0, 0], [0, 2.5, 7.5, 10])


@given(step=st.floats(0.2, 8), size=st.integers(40, 90))
def test_ramp_keeps_its_place(step: float, size: int) -> None:
    """A linear ramp equals its own coordinate, so any shift shows as an offset."""
    ramp = np.broadcast_to(np.arange(size) + 0.5, (1, size, size))
    count = int((size - 1) // step)
    taps = find_taps(1, count, step=step, origin=0.0, length=size)
    if count < 3:
        return
    out, _ = resample(
        cut(ramp, taps, taps), np.ones(cut(ramp, taps, taps).shape[1:], bool), rows=taps, cols=taps
    )
    centres = (np.arange(1, count) + 0.5) * step
    inner = (centres > 0.5 + step) & (centres < size - 0.5 - step)
    tolerance = 1e-4 if step < 1 else 0.13  # pixels are flat steps: 1/8 at most at each edge
    np.testing.assert_allclose(out[0, 0][inner], centres[inner], atol=tolerance)


@given(
    step=st.floats(0.2, 8),
    first=st.integers(0, 12),
    length=st.integers(1, 20),
    seed=st.integers(0, 99),
    masked=st.booleans(),
)
def test_part_equals_whole_bit_by_bit(
    *, step: float, first: int, length: int, seed: int, masked: bool
) -> None:
    generator = np.random.default_rng(seed)
    size = int(40 * step) + 4
    samples = generator.integers(0, 255, (2, size, size), dtype=np.uint8)
    valid = generator.random((size, size)) > (0.4 if masked else -1)
    samples_f = samples.astype(np.float32)
    full = find_taps(0, 40, step=step, origin=0.0, length=size)
    part = find_taps(first, first + length, step=step, origin=0.0, length=size)
    every, every_valid = resample(
        cut(samples_f, full, full), cut(valid, full, full), rows=full, cols=full
    )
    some, some_valid = resample(
        cut(samples, part, part), cut(valid, part, part), rows=part, cols=part
    )
    window = np.s_[..., first : first + length, first : first + length]
    np.testing.assert_array_equal(some_valid, every_valid[window])
    np.testing.assert_array_equal(some * some_valid, (every * every_valid)[window])


def test_invalid_samples_weigh_nothing() -> None:
    samples = np.full((1, 4, 4), 10, np.float32)
    samples[0, :, 1] = np.nan
    samples[0, 0, 0] = np.nan
    valid = np.isfinite(samples[0])
    out, kept = whole(samples, valid, step=2.0)
    assert np.isfinite(out[:, kept]).all()
    np.testing.assert_allclose(out[:, kept], 10)
    np.testing.assert_array_equal(kept, [[False, True], [True, True]])


def test_values_stay_in_range(noise: Noise) -> None:
    samples = noise(1, 50, 50)
    for step in (0.3, 0.9, 1.1, 3.3):
        out, _ = whole(samples, np.ones((50, 50), bool), step=step)
        assert samples.min() <= out.min() + 1e-3
        assert out.max() <= samples.max() + 1e-3


def test_large_integers_keep_their_digits() -> None:
    samples = np.full((1, 4, 4), 2**31 - 1, np.int32)
    out, _ = whole(samples, np.ones((4, 4), bool), step=2.0)
    assert out.dtype == np.float64
    assert (out == 2**31 - 1).all()
