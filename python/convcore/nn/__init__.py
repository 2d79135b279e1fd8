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
from convcore.nn.dropout import Dropout
from convcore.nn.flatten import Flatten
from convcore.nn.linear import Dense, Identity, Linear
from convcore.nn.loss import CrossEntropyLoss, Loss, MSELoss
from convcore.nn.module import Module
from convcore.nn.normalization import BatchNorm1d, BatchNorm2d
from convcore.nn.padding import PadChannels
from convcore.nn.parameter import Parameter
from convcore.nn.pooling import (
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    MaxPool1d,
    MaxPool2d,
    Subsampling2d,
)
from convcore.nn.rbf import EuclideanRBF

__all__ = [
    "ELU",
    "GELU",
    "AdaptiveAvgPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dense",
    "Dropout",
    "EuclideanRBF",
    "Flatten",
    "Identity",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MSELoss",
    "MaxPool1d",
    "MaxPool2d",
    "Module",
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
    "Subsampling2d",
    "Tanh",
]
