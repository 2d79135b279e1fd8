"""Wrong: the kernel is flipped and the padding forgotten; the gradients belong to that forward."""

import numpy as np


def conv_forward_naive(x, w, b, conv_param):
    s = conv_param["stride"]
    k1, k2 = w.shape[2:]
    rows, columns = (x.shape[2] - k1) // s + 1, (x.shape[3] - k2) // s + 1
    out = np.zeros((len(x), len(w), rows, columns))
    for i in range(rows):
        for j in range(columns):
            window = x[:, None, :, i * s : i * s + k1, j * s : j * s + k2]
            out[:, :, i, j] = (window * w[:, :, ::-1, ::-1]).sum((2, 3, 4)) + b
    return out, (x, w, s)


def conv_backward_naive(dout, cache):
    x, w, s = cache
    k1, k2 = w.shape[2:]
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            place = (slice(None), slice(None), slice(i * s, i * s + k1), slice(j * s, j * s + k2))
            dx[place] += np.tensordot(dout[:, :, i, j], w[:, :, ::-1, ::-1], 1)
            dw += np.tensordot(dout[:, :, i, j], x[place], ((0,), (0,)))[:, :, ::-1, ::-1]
    return dx, dw, dout.sum((0, 2, 3))
