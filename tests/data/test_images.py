"""Images that stay uint8, and augmentation, in fit, evaluate and predict."""

from __future__ import annotations

import re

import numpy as np
import pytest

import convcore
import convcore.functional as F
from convcore import _plan, nn, optim, serialization
from convcore import transforms as T
from convcore.callbacks import TrainingCheckpoint
from convcore.data import Augment, Images
from helpers import floats

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.fixture
def pixels(rng):
    return rng.integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)


@pytest.fixture
def labels(rng):
    return rng.integers(0, 4, 40)


def network():
    convcore.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4))
    model.compile(lambda p: optim.SGD(p, lr=0.05, momentum=0.9))
    return model


class Recorder(nn.Module):
    """Passes images on, and keeps a copy of those that come in."""

    def __init__(self):
        self.seen = []

    def forward(self, x):
        if len(x):  # the checks before a training send an empty batch
            self.seen.append(x.copy())
        return x

    def backward(self, dy, need_dx=True):
        return dy if need_dx else None


def assert_same_weights(a, b):
    for name, value in a.state_dict().items():
        np.testing.assert_array_equal(value, b.state_dict()[name], err_msg=name)


def test_images_are_the_standardised_pixels(pixels):
    images = Images(pixels, MEAN, STD)
    mean, std = (np.array(v)[:, None, None] for v in (MEAN, STD))
    want = (pixels / 255 - mean) / std
    np.testing.assert_allclose(images[:], want, rtol=1e-5, atol=1e-5)
    assert images.array is pixels
    assert images.shape == pixels.shape
    assert (len(images), images.ndim, images.dtype) == (40, 4, np.float32)
    assert repr(images) == "Images(40 x 3 x 8 x 8, uint8)"


def test_images_are_indexed_as_an_array(pixels, rng):
    images = Images(pixels, 0.5, 0.25, peak=16)
    whole = np.asarray(images)
    assert whole.dtype == np.float32
    for index in (
        slice(3, 9),
        slice(None, None, -7),
        slice(50, 60),
        -1,
        np.array([[3, 1], [2, 2]]),
        [5, -2],
        rng.integers(0, 2, 40).astype(bool),
    ):
        np.testing.assert_array_equal(images[index], whole[index])
    with pytest.raises(IndexError):
        images[40]


def test_images_of_a_number_are_between_0_and_1(pixels):
    x = Images(pixels)[:]
    np.testing.assert_allclose(x, pixels / 255, rtol=1e-6)
    assert x.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((1, 2, 3, 4), np.float32),), TypeError, "array has the wrong type"),
        (([[1]],), TypeError, "array has the wrong type"),
        ((np.zeros((2, 3, 4), np.uint8),), ValueError, "array has the wrong number of dimensions"),
        ((np.zeros((1, 2, 3, 4), np.uint8), (1, 2, 3)), ValueError, "mean has the wrong length"),
        ((np.zeros((1, 2, 3, 4), np.uint8), 0, (1, 0)), ValueError, "std is out of range"),
    ],
)
def test_images_rejects(arguments, error, message):
    with pytest.raises(error, match=re.escape(f"Images: {message}")):
        Images(*arguments)


def test_images_train_as_the_float32_array_they_stand_for(pixels, labels):
    images = Images(pixels, MEAN, STD)
    a = network()
    validation = (images, labels)
    first = a.fit(images, labels, 3, 16, validation_data=validation, verbose=0)
    whole, b = np.asarray(images), network()
    second = b.fit(whole, labels, 3, 16, validation_data=(whole, labels), verbose=0)
    assert_same_weights(a, b)
    assert first.history["val_loss"] == second.history["val_loss"]
    assert a.evaluate(images, labels) == b.evaluate(whole, labels)
    np.testing.assert_array_equal(a.predict(images, 7), b.predict(whole, 7))


def test_fit_names_images_when_it_gets_uint8(pixels, labels):
    with pytest.raises(TypeError, match=r"fit: x has the wrong dtype.*convcore\.data\.Images"):
        network().fit(pixels, labels)


def test_samples_of_any_shape_are_gathered(rng):
    x, y = floats(rng, 30, 5, 7), rng.integers(0, 3, 30)
    recorder = Recorder()
    model = nn.Sequential(recorder, nn.Flatten(), nn.Linear(35, 3))
    model.compile("sgd")
    convcore.manual_seed(1)
    model.fit(x, y, batch_size=8, verbose=0)
    convcore.manual_seed(1)
    order = convcore.random.permutation(30)
    np.testing.assert_array_equal(np.concatenate(recorder.seen), x[order])


# ---- Augment -------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_images", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_fit_augments_each_image_anew_in_each_epoch(pixels, labels, as_images, shuffle):
    x = Images(pixels, MEAN, STD) if as_images else floats(np.random.default_rng(0), 40, 3, 8, 8)
    recorder, augment = Recorder(), Augment(pad=2, flip=True)
    model = nn.Sequential(recorder, nn.Flatten(), nn.Linear(192, 4))
    model.compile("sgd")
    convcore.manual_seed(5)
    model.fit(
        x, labels, 2, 16, validation_data=(x, labels), shuffle=shuffle, verbose=0, augment=augment
    )
    batches = recorder.seen
    convcore.manual_seed(5)
    epochs = []
    for epoch in range(2):
        order = convcore.random.permutation(40) if shuffle else np.arange(40)
        key = convcore.random.next_key()
        arguments = {"pad": 2, "flip": True, "key": key}
        if as_images:
            arguments |= {"scale": x.scale, "shift": x.shift}
        want = F.gather_images(pixels if as_images else x, order, **arguments)
        got = batches[4 * epoch : 4 * epoch + 3]
        np.testing.assert_array_equal(np.concatenate(got), want)
        np.testing.assert_array_equal(batches[4 * epoch + 3], x[:])  # the validation
        epochs.append(want[np.argsort(order)])
    assert not np.array_equal(*epochs)


def test_training_with_augmentation_is_the_same_at_any_thread_count(pixels, labels):
    models = []
    for threads in (1, 3):
        convcore.set_num_threads(threads)
        model = network()
        model.fit(Images(pixels), labels, 2, 16, verbose=0, augment=Augment(1, flip=True))
        models.append(model)
    assert_same_weights(*models)


def test_training_with_augmentation_resumes_bit_for_bit(pixels, labels, tmp_path):
    arguments = {"batch_size": 16, "verbose": 0, "augment": Augment(2, flip=True)}
    whole, broken = network(), network()
    convcore.manual_seed(7)
    whole.fit(pixels_of(pixels), labels, 4, **arguments)
    convcore.manual_seed(7)
    broken.fit(pixels_of(pixels), labels, 2, callbacks=TrainingCheckpoint(tmp_path), **arguments)
    resumed = network()
    convcore.manual_seed(99)
    epoch, _ = serialization.load_checkpoint(tmp_path, resumed, resumed.optimizer)
    resumed.fit(pixels_of(pixels), labels, 4, initial_epoch=epoch, **arguments)
    assert_same_weights(whole, resumed)


def pixels_of(array):
    return Images(array, MEAN, STD)


def test_augment_that_does_nothing_changes_nothing_but_the_stream(pixels, labels):
    a = network()
    a.fit(Images(pixels), labels, 1, 16, verbose=0)
    b = network()
    b.fit(Images(pixels), labels, 1, 16, verbose=0, augment=Augment())
    assert_same_weights(a, b)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Augment(pad=-1), ValueError, "Augment: pad is out of range"),
        (lambda: Augment(pad=0.5), TypeError, "Augment: pad has the wrong type"),
        (
            lambda: network().fit(np.zeros((4, 3, 8, 8), np.float32), np.zeros(4, int), augment=4),
            TypeError,
            "fit: augment has the wrong type: expected a convcore.transforms.Transform, got int",
        ),
        (
            lambda: flat().fit(np.zeros((4, 6), np.float32), np.zeros(4, int), augment=Augment(1)),
            ValueError,
            "fit: augment does not fit x: expected images (N, C, H, W), got x of shape (4, 6)",
        ),
    ],
)
def test_augment_rejects(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def flat():
    model = nn.Sequential(nn.Linear(6, 2))
    model.compile("sgd")
    return model


# ---- other transforms ----------------------------------------------------------------------------

COLOURS = T.Compose(
    [
        T.RandomCrop(8, padding=2),
        T.RandomHorizontalFlip(),
        T.ColorJitter(0.4, 0.4, 0.4, 0.1),
        T.RandomErasing(),
    ]
)


def seen_in_training(x, labels, augment, shuffle=True):
    """Return the images of an epoch in the order of the data set, and their key."""
    recorder = Recorder()
    model = nn.Sequential(recorder, nn.Flatten(), nn.Linear(192, 4))
    model.compile("sgd")
    convcore.manual_seed(5)
    model.fit(x, labels, 1, 16, shuffle=shuffle, verbose=0, augment=augment)
    convcore.manual_seed(5)
    order = convcore.random.permutation(40) if shuffle else np.arange(40)
    return np.concatenate(recorder.seen)[np.argsort(order)], convcore.random.next_key()


@pytest.mark.parametrize("shuffle", [False, True])
def test_fit_applies_any_transform_and_normalises_afterwards(pixels, labels, shuffle):
    x = Images(pixels, MEAN, STD)
    seen, key = seen_in_training(x, labels, COLOURS, shuffle)
    want = T.Compose([COLOURS, T.Normalize(MEAN, STD)])(pixels, key=key)
    np.testing.assert_allclose(seen, want, rtol=1e-5, atol=1e-5)


def test_a_crop_and_a_flip_are_the_same_in_the_step_and_before_it(pixels, labels):
    x = Images(pixels, MEAN, STD)
    usual = T.Compose([T.RandomCrop(8, padding=2), T.RandomHorizontalFlip()])
    assert usual.as_gather((3, 8, 8)) == (2, True)
    a, _ = seen_in_training(x, labels, usual)
    b, _ = seen_in_training(x, labels, Augment(pad=2, flip=True))
    np.testing.assert_array_equal(a, b)
    slow = T.Compose([usual, T.RandomHorizontalFlip(0)])
    assert slow.as_gather((3, 8, 8)) is None
    c, _ = seen_in_training(x, labels, slow)
    np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-5)
    only_flip, _ = seen_in_training(x, labels, T.RandomHorizontalFlip())
    d, _ = seen_in_training(x, labels, T.Compose([T.RandomHorizontalFlip(), T.CenterCrop(8)]))
    np.testing.assert_allclose(only_flip, d, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "transform",
    [
        T.RandomCrop(7, padding=2),
        T.RandomCrop(8),
        T.RandomCrop(8, padding=2, fill=0.5),
        T.RandomCrop(8, padding=(1, 2)),
        T.RandomHorizontalFlip(0.25),
        T.RandomVerticalFlip(),
        T.Compose([T.RandomHorizontalFlip(), T.RandomCrop(8, padding=2)]),
        T.MixUp(),
    ],
)
def test_only_a_crop_and_a_flip_go_into_the_step(transform):
    assert transform.as_gather((3, 8, 8)) is None


def test_the_plan_trains_as_the_layers_on_transformed_images(pixels, labels):
    models = []
    for enabled in (True, False):
        model = network()
        _plan.planning.enabled = enabled
        try:
            augment = T.Compose([COLOURS, T.MixUp(0.4)])
            history = model.fit(Images(pixels), labels, 3, 16, verbose=0, augment=augment)
        finally:
            _plan.planning.enabled = True
        models.append((model, history.history))
    for name, value in models[0][0].state_dict().items():
        other = models[1][0].state_dict()[name]
        np.testing.assert_allclose(value, other, rtol=1e-4, atol=1e-5, err_msg=name)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(models[0][1][name], models[1][1][name], rtol=1e-4)


def test_training_with_transforms_is_the_same_at_any_thread_count(pixels, labels):
    models = []
    for threads in (1, 3):
        convcore.set_num_threads(threads)
        model = network()
        augment = T.Compose([COLOURS, T.GaussianNoise(), T.MixUp()])
        model.fit(Images(pixels), labels, 2, 16, verbose=0, augment=augment)
        models.append(model)
    assert_same_weights(*models)


def test_training_images_may_have_another_size(rng, labels):
    large = rng.integers(0, 256, (40, 3, 12, 11)).astype(np.uint8)
    model = network()
    model.fit(Images(large), labels, 1, 16, verbose=0, augment=T.RandomResizedCrop(8))
    with pytest.raises(ValueError, match="fit: "):
        model.fit(Images(large), labels, 1, 16, verbose=0, augment=Augment(pad=1))


def test_shares_of_the_classes_are_targets(pixels, labels):
    shares = np.eye(4, dtype=np.float32)[labels]
    x = Images(pixels)
    a = network()
    a.fit(x, labels, 2, 16, verbose=0)
    b = network()
    b.fit(x, shares, 2, 16, verbose=0)
    for name, value in a.state_dict().items():
        np.testing.assert_allclose(value, b.state_dict()[name], rtol=1e-5, atol=1e-6)
    got, want = b.evaluate(x, shares), a.evaluate(x, labels)
    assert got["accuracy"] == want["accuracy"]
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("y", "augment", "message"),
    [
        (
            np.zeros((4, 3), np.float32),
            None,
            "fit: y has the wrong shape: expected (4, 4) (the share of each class, or one class",
        ),
        (
            np.zeros(4, int),
            T.ColorJitter(0.5),
            "fit: the images have values out of range: expected 0 to 1 for what changes colour",
        ),
        (
            np.zeros(4, int),
            T.Sobel(),
            "as of the digits, data.load(..., normalize=False) gives them from 0 to 1)",
        ),
        (
            np.zeros(4, int),
            T.CenterCrop(9),
            "CenterCrop: size is larger than the images with their padding: expected at most 8 x 8",
        ),
    ],
)
def test_fit_rejects_what_does_not_fit(y, augment, message):
    x = np.full((4, 3, 8, 8), -1, np.float32)
    with pytest.raises(ValueError, match=re.escape(message)):
        network().fit(x, y, augment=augment, verbose=0)


def test_mixup_needs_a_loss_of_classes():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model.compile("sgd", "mse")
    x, y = np.zeros((3, 1, 2, 2), np.float32), np.zeros((3, 2), np.float32)
    with pytest.raises(ValueError, match="fit: augment does not fit the loss: expected CrossEn"):
        model.fit(x, y, augment=T.MixUp(), verbose=0)


# ---- load ----------------------------------------------------------------------------------------


def test_load_keeps_images_as_uint8():
    floats_ = convcore.data.load("digits", "test", image_size=8)
    kept = convcore.data.load("digits", "test", image_size=8, dtype="uint8")
    assert isinstance(kept.x, Images)
    assert kept.x.array.dtype == np.uint8
    np.testing.assert_allclose(kept.x[:], floats_.x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(kept.y, floats_.y)
    assert repr(kept) == repr(floats_)
    plain = convcore.data.load("digits", "test", image_size=8, dtype="uint8", normalize=False)
    assert (plain.x[:].min(), plain.x[:].max()) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "uint8"}, "dtype does not fit: expected 'float32' for images resized to 28 x"),
        ({"dtype": "int8"}, "dtype is not known: expected 'float32' or 'uint8', got 'int8'"),
    ],
)
def test_load_rejects_a_dtype(arguments, message):
    with pytest.raises(ValueError, match=re.escape(f"load: {message}")):
        convcore.data.load("digits", **arguments)
