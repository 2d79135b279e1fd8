"""nn.utils."""

from __future__ import annotations

import re

import numpy as np
import pytest

from convcore import nn, optim
from helpers import floats


def parameters(rng, scale=1.0):
    result = [nn.Parameter(floats(rng, *shape)) for shape in ((3, 4), (70,), (2,))]
    for p in result[:2]:
        p.grad = scale * floats(rng, *p.shape)
    return result


@pytest.mark.torch
@pytest.mark.parametrize("max_norm", [0.1, 1.0, 50.0])
def test_clip_grad_norm_matches_torch(torch, rng, max_norm):
    ours = parameters(rng)
    theirs = [torch.nn.Parameter(torch.tensor(p.data)) for p in ours]
    for p, t in zip(ours, theirs, strict=True):
        t.grad = None if p.grad is None else torch.tensor(p.grad)
    want = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    assert nn.utils.clip_grad_norm_(ours, max_norm) == pytest.approx(want.item(), rel=1e-6)
    for p, t in zip(ours[:2], theirs[:2], strict=True):
        np.testing.assert_allclose(p.grad, t.grad.numpy(), rtol=1e-6)
    assert ours[2].grad is None


def test_clip_grad_norm_leaves_short_gradients_alone(rng):
    ours = parameters(rng, 1e-3)
    before = [p.grad.copy() for p in ours[:2]]
    nn.utils.clip_grad_norm_(ours, 1.0)
    for p, gradient in zip(ours[:2], before, strict=True):
        np.testing.assert_array_equal(p.grad, gradient)


def test_clip_grad_norm_of_nothing_is_0():
    assert nn.utils.clip_grad_norm_([nn.Parameter(np.zeros(3, np.float32))], 1.0) == 0.0


def test_fit_clips_each_step(rng):
    x, y = 100 * floats(rng, 8, 5), rng.integers(0, 2, 8)
    model = nn.Sequential(nn.Linear(5, 2))
    model.compile(lambda p: optim.SGD(p, lr=1.0), clip_grad_norm=0.5)
    before = np.concatenate([p.data.ravel() for p in model.parameters()])
    model.fit(x, y, batch_size=8, verbose=0)
    after = np.concatenate([p.data.ravel() for p in model.parameters()])
    assert np.linalg.norm(after - before) == pytest.approx(0.5, rel=1e-4)


def test_clip_grad_norm_rejects():
    with pytest.raises(ValueError, match=re.escape("clip_grad_norm_: max_norm is out of range")):
        nn.utils.clip_grad_norm_([], -1.0)
    with pytest.raises(ValueError, match="compile: clip_grad_norm is out of range"):
        nn.Sequential(nn.Linear(2, 2)).compile(clip_grad_norm=0)
    with pytest.raises(TypeError, match="compile: clip_grad_norm has the wrong type"):
        nn.Sequential(nn.Linear(2, 2)).compile(clip_grad_norm="1")
