"""Wrong: the input is overwritten, and so is the cache."""


def relu_forward(x):
    x[x < 0] = 0
    return x, x


def relu_backward(dout, cache):
    cache[cache > 0] = 1
    cache *= dout
    return cache
