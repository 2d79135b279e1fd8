"""Whole networks in float64, from the specification, in evaluation mode."""

from __future__ import annotations

import numpy as np

from convcore import nn, reference


def small_network(rng):
    """Return a network with every kind of layer that treats evaluation in a way of its own."""
    body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3))
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Residual(body, activation=nn.ReLU()),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(27, 4),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean[:] = rng.standard_normal(3)
            module.running_var[:] = rng.uniform(0.5, 2, 3)
            module.weight.data[:] = rng.uniform(0.5, 2, 3)
    return model


def forward(model, x, given=None):
    """Return the output for `x`; `given` has the outputs of some modules, by name."""
    given = given or {}
    names = {id(module): name for name, module in model.named_modules()}
    return _forward(model, np.asarray(x, np.float64), names, given)


def _forward(module, x, names, given):
    if names[id(module)] in given:
        return np.asarray(given[names[id(module)]], np.float64)
    if isinstance(module, nn.Sequential):
        for layer in module:
            x = _forward(layer, x, names, given)
        return x
    if isinstance(module, nn.Residual):
        side = x if module.shortcut is None else _forward(module.shortcut, x, names, given)
        y = _forward(module.body, x, names, given) + side
        return y if module.activation is None else _forward(module.activation, y, names, given)
    return _layer(module, x)


def _layer(module, x):
    if isinstance(module, nn.Conv2d):
        bias = None if module.bias is None else _wide(module.bias.data)
        arguments = (module.stride, module.padding, module.dilation, module.groups)
        return reference.conv2d(x, _wide(module.weight.data), bias, *arguments)
    if isinstance(module, nn.Linear):
        return reference.linear(x, _wide(module.weight.data), _wide(module.bias.data))
    if isinstance(module, nn.BatchNorm2d):
        arrays = (module.running_mean, module.running_var, module.weight.data, module.bias.data)
        return reference.batch_norm(x, *map(_wide, arrays), eps=module.eps)
    if isinstance(module, nn.MaxPool2d):
        return reference.max_pool2d(x, module.kernel_size, module.stride)
    if isinstance(module, nn.Flatten):
        return x.reshape(len(x), -1)
    if isinstance(module, nn.Dropout):
        return x
    assert isinstance(module, nn.ReLU), module
    return reference.relu(x)


def _wide(array):
    return array.astype(np.float64)
