"""A network that has learned something, and the images that it has not seen."""

from __future__ import annotations

import pytest

import convcore
from convcore import data, models, optim


@pytest.fixture(scope="session")
def digits():
    return data.load("digits", "test")


@pytest.fixture(scope="session")
def lenet():
    """Give LeNet-5 after two epochs on the digits."""
    convcore.manual_seed(0)
    train = data.load("digits")
    model = models.lenet5()
    model.compile(optimizer=lambda p: optim.Adam(p, lr=2e-3))
    model.fit(train.x, train.y, epochs=2, verbose=0)
    return model
