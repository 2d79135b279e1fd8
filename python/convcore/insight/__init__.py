"""Insight: what a trained network does, where it errs, and what its units look for.

Every function returns numbers: arrays in a small result, whose ``str()`` is a table and whose
`plot` draws a picture (with matplotlib: ``pip install 'convcore[plot]'``). On the command line:
``convcore insight``. docs/insight.md shows them all.

All work on any network of `Sequential`, `Residual` and layers, batch by batch, in evaluation mode,
and leave the network as it is. The same input gives the same numbers.
"""

from __future__ import annotations

from convcore.insight._adversarial import Adversarial, AdversarialCurve, adversarial_curve, fgsm
from convcore.insight._concepts import concepts
from convcore.insight._confusion import ConfusionMatrix, confusion_matrix
from convcore.insight._curves import LearningCurves, learning_curves
from convcore.insight._dissection import Dissection, dissect
from convcore.insight._errors import ErrorRow, ErrorTable, error_table
from convcore.insight._features import FeatureMaps, feature_maps
from convcore.insight._filters import Filters, filters
from convcore.insight._network import activations, input_gradient
from convcore.insight._patches import Patches, top_patches
from convcore.insight._receptive_field import FieldRow, ReceptiveField, receptive_field
from convcore.insight._saliency import GradCAM, Saliency, grad_cam, saliency
from convcore.insight._statistics import (
    ActivationStatistics,
    LayerStatistics,
    activation_statistics,
)

__all__ = [
    "ActivationStatistics",
    "Adversarial",
    "AdversarialCurve",
    "ConfusionMatrix",
    "Dissection",
    "ErrorRow",
    "ErrorTable",
    "FeatureMaps",
    "FieldRow",
    "Filters",
    "GradCAM",
    "LayerStatistics",
    "LearningCurves",
    "Patches",
    "ReceptiveField",
    "Saliency",
    "activation_statistics",
    "activations",
    "adversarial_curve",
    "concepts",
    "confusion_matrix",
    "dissect",
    "error_table",
    "feature_maps",
    "fgsm",
    "filters",
    "grad_cam",
    "input_gradient",
    "learning_curves",
    "receptive_field",
    "saliency",
    "top_patches",
]
