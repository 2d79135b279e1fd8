"""Wrong: the layer keeps its input in a global variable."""

import numpy as np

last = None


def relu_forward(x):
    global last
    last = x
    return np.maximum(x, 0), None


def relu_backward(dout, cache):
    return dout * (last > 0)
