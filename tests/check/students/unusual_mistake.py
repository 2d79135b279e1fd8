"""Wrong in a way that nobody foresaw, and only where the image is padded."""

import numpy as np


def conv_forward_naive(x, w, b, conv_param):
    s, p = conv_param["stride"], conv_param["pad"]
    xp = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)), constant_values=0.125)
    k1, k2 = w.shape[2:]
    rows, columns = (xp.shape[2] - k1) // s + 1, (xp.shape[3] - k2) // s + 1
    out = np.zeros((len(x), len(w), rows, columns))
    for i, j in np.ndindex(rows, columns):
        window = xp[:, None, :, i * s : i * s + k1, j * s : j * s + k2]
        out[:, :, i, j] = (window * w).sum((2, 3, 4)) + b
    return out, None
