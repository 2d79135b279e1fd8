"""Right: a layer of convcore's own kind, with Parameters, which are float32."""

import numpy as np

from convcore import nn
from convcore.nn import Parameter


class Linear(nn.Module):
    def __init__(self, in_features, out_features):
        self.weight = Parameter(np.zeros((out_features, in_features), np.float32))
        self.bias = Parameter(np.zeros(out_features, np.float32))

    def forward(self, x):
        self.x = x
        return x @ self.weight.data.T + self.bias.data

    def backward(self, dy, need_dx=True):
        self.weight.accumulate_grad(dy.T @ self.x)
        self.bias.accumulate_grad(dy.sum(0))
        return dy @ self.weight.data
