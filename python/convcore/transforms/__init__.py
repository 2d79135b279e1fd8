"""What is done to images before a network sees them: augmentation under torchvision's names.

A transform is a small immutable description. Called, it changes images (C, H, W) or batches
(N, C, H, W) of uint8 or float32; given to `Model.fit` as ``augment=``, it changes each training
image anew in each epoch. The work is done in C++, image by image, in parallel.

What becomes of an image is a function of a key (one per epoch in `fit`, one per call otherwise),
of the image's index and of the transform: not of the batch it is in, and not of the number of
threads. There is no gradient.

Inside, the values are float32 from 0 to 1 (uint8 divided by 255), rounded back to uint8 once, at
the end of the whole list.
"""

from convcore.transforms._base import (
    Stage,
    Transform,
)
from convcore.transforms._colour import (
    ColorJitter,
    Grayscale,
    Normalize,
    RandomGrayscale,
)
from convcore.transforms._filters import (
    GaussianBlur,
    GaussianNoise,
    Sobel,
)
from convcore.transforms._geometry import (
    CenterCrop,
    Cutout,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomRotation90,
    RandomVerticalFlip,
    Resize,
)
from convcore.transforms._lists import (
    Augment,
    Compose,
    RandomApply,
)
from convcore.transforms._mixing import (
    MixUp,
)

__all__ = [
    "Augment",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "Cutout",
    "GaussianBlur",
    "GaussianNoise",
    "Grayscale",
    "MixUp",
    "Normalize",
    "RandomApply",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomRotation90",
    "RandomVerticalFlip",
    "Resize",
    "Sobel",
    "Stage",
    "Transform",
]
