"""The comparisons that the tests of all ops share."""

from __future__ import annotations

import numpy as np

import convcore

EPS32 = 2.0**-24  # half a unit in the last place of 1.0f: the largest relative rounding error


def floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def assert_close(got, want, magnitude, terms, what="", slack=0.0):
    """Hold a float32 result against the float64 reference, within a derived bound.

    A sum of `terms` products, in any order, with one rounding each, differs from the exact one by
    at most about ``terms * eps * sum |products|``; rounding errors of random sign grow with the
    square root, so ``8 + 2 sqrt(terms)`` leaves them room and still catches a dropped term.
    `magnitude` is that sum of absolute values: the reference run on absolute values. `slack` is for
    algorithms whose error is bounded against the whole result: a part of its root mean square.
    """
    assert got.dtype == np.float32
    assert got.shape == want.shape, (what, got.shape, want.shape)
    bound = (8 + 2 * np.sqrt(terms)) * EPS32 * np.abs(magnitude) + 1e-30
    if slack and want.size:
        bound = bound + slack * np.sqrt(np.mean(want**2))
    error = np.abs(got.astype(np.float64) - want)
    bad = ~(error <= bound)
    assert not bad.any(), (
        f"{what}: {bad.sum()} of {bad.size} elements differ; first at {np.argwhere(bad)[0]}: "
        f"got {got[bad][0]!r}, want {want[bad][0]!r}, "
        f"bound {np.broadcast_to(bound, bad.shape)[bad][0]:.3g}"
    )


def assert_adjoint(y, dy, dx, x):
    """Check <f(x), dy> = <x, f'(dy)> for an op f that is linear in x (y = f(x), dx = f'(dy))."""
    y, dy, dx, x = (a.astype(np.float64).ravel() for a in (y, dy, dx, x))
    scale = np.linalg.norm(y) * np.linalg.norm(dy) + np.linalg.norm(dx) * np.linalg.norm(x)
    assert abs(y @ dy - dx @ x) <= 1e-6 * scale


def numeric_gradient(f, x, dy, eps=1e-6):
    """Return d<f(x), dy>/dx by central differences in float64 (`f` maps x to y)."""
    x = x.astype(np.float64)
    grad = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + eps
        high = (f(x) * dy).sum()
        x[i] = kept - eps
        low = (f(x) * dy).sum()
        x[i] = kept
        grad[i] = (high - low) / (2 * eps)
    return grad


def assert_same_bits_at_any_thread_count(f, threads=(1, 2, 3, 8)):
    """Call `f()` (an array or a tuple of arrays) at each thread count and compare the bits."""
    first = None
    for count in threads:
        convcore.set_num_threads(count)
        result = f()
        result = result if isinstance(result, tuple) else (result,)
        bits = [None if r is None else np.asarray(r).tobytes() for r in result]
        if first is None:
            first = bits
        assert bits == first, f"{count} threads give other bits than {threads[0]}"
