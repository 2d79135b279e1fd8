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
    return out, None
