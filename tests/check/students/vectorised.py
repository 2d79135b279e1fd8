"""Right, and written quite differently: windows as views, no loops; float32 inside; prints."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view


def conv_forward_fast(x, w, b, conv_param):
    s, p = conv_param["stride"], conv_param["pad"]
    xp = np.pad(x, [(0, 0), (0, 0), (p, p), (p, p)]).astype(np.float32)
    windows = sliding_window_view(xp, w.shape[2:], (2, 3))[:, :, ::s, ::s]
    out = np.tensordot(windows, w.astype(np.float32), ((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)
    print("windows", windows.shape)
    return out + b.astype(np.float32)[:, None, None], (windows, x.shape, w, s, p)


def conv_backward_fast(dout, cache):
    windows, shape, w, s, p = cache
    dw = np.einsum("nkij,ncijrs->kcrs", dout, windows)
    dxp = np.zeros((shape[0], shape[1], shape[2] + 2 * p, shape[3] + 2 * p))
    for r, t in np.ndindex(*w.shape[2:]):
        rows = slice(r, r + s * (dout.shape[2] - 1) + 1, s)
        columns = slice(t, t + s * (dout.shape[3] - 1) + 1, s)
        dxp[:, :, rows, columns] += np.einsum("nkij,kc->ncij", dout, w[:, :, r, t])
    return dxp[:, :, p : p + shape[2], p : p + shape[3]], dw, dout.sum((0, 2, 3))
