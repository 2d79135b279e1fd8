"""Layers with parameters: torch's names, arguments, initialisation and state_dict keys."""

from convcore.nn import connections as connections
from convcore.nn import utils as utils
from convcore.nn.activation import (
    ELU,
    GELU,
    LeakyReLU,
    LogSoftmax,
    ReLU,
    ScaledTanh,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
)
from convcore.nn.containers import Residual, ResidualBlock, Sequential
from convcore.nn.conv import Conv1d, Conv2d
from convcore.nn.dropout import Dropout, Dropout2d
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Dense, Identity, Linear
from convcore.nn.loss import CrossEntropyLoss, Loss, MSELoss, MultiMarginLoss
from convcore.nn.module import Module
from convcore.nn.normalization import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm
from convcore.nn.padding import PadChannels
from convcore.nn.parameter import Parameter
from convcore.nn.pooling import (
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    AvgPool1d,
    AvgPool2d,
    LPPool2d,
    MaxPool1d,
    MaxPool2d,
    StochasticPool2d,
    Subsampling2d,
)
from convcore.nn.rbf import EuclideanRBF

__all__ = [
    "ELU",
    "GELU",
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dense",
    "Dropout",
    "Dropout2d",
    "EuclideanRBF",
    "Flatten",
    "GroupNorm",
    "Identity",
    "LPPool2d",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
    "MultiMarginLoss",
    "PadChannels",
    "Parameter",
    "ReLU",
    "Residual",
    "ResidualBlock",
    "ScaledTanh",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "StochasticPool2d",
    "Subsampling2d",
    "Tanh",
]
