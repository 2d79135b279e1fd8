"""Saliency, Grad-CAM, adversarial examples."""

from __future__ import annotations

import re

import numpy as np
import pytest

import reference_network
from convcore import data, insight, models, nn
from helpers import floats, numeric_gradient


def one_hot(targets, classes):
    return np.eye(classes)[np.asarray(targets)]


def test_saliency_is_the_largest_gradient_of_a_pixel(rng):
    model, x = reference_network.small_network(rng), floats(rng, 3, 2, 6, 6)
    targets = [2, 0, 3]
    want = numeric_gradient(lambda x: reference_network.forward(model, x), x, one_hot(targets, 4))
    found = insight.saliency(model, x, targets, batch_size=2)
    np.testing.assert_allclose(found.gradients, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.maps, np.abs(want).max(axis=1), rtol=1e-4, atol=1e-5)
    scores = reference_network.forward(model, x)[np.arange(3), targets]
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4)


@pytest.mark.parametrize("layer", ["0", "2", "3.body.1", "4"])
def test_grad_cam_matches_finite_differences(rng, layer):
    model, x = reference_network.small_network(rng), floats(rng, 2, 2, 6, 6)
    targets = [1, 3]
    maps = insight.activations(model, x, [layer])[layer]

    def rest(maps):
        return reference_network.forward(model, x, {layer: maps})

    weights = numeric_gradient(rest, maps, one_hot(targets, 4)).mean(axis=(2, 3))
    want = np.maximum(np.einsum("nk,nkhw->nhw", weights, maps.astype(np.float64)), 0)
    found = insight.grad_cam(model, x, targets, layer, batch_size=1)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.coarse, want, rtol=1e-3, atol=1e-5)
    assert found.maps.shape == (2, 6, 6)
    assert found.maps.min() >= 0


def test_grad_cam_of_a_block_is_that_of_its_last_layer(rng):
    model, x = reference_network.small_network(rng), floats(rng, 2, 2, 6, 6)
    maps = [insight.grad_cam(model, x, 0, layer).maps for layer in ("3", "3.activation")]
    np.testing.assert_array_equal(*maps)


def test_grad_cam_looks_behind_the_last_convolution(rng):
    assert insight.grad_cam(models.lenet5(), floats(rng, 1, 1, 28, 28)).layer == "4"
    found = insight.grad_cam(models.resnet20(), floats(rng, 2, 3, 32, 32))
    assert (found.layer, found.coarse.shape) == ("layer3.2.activation", (2, 8, 8))


@pytest.mark.parametrize(
    ("name", "shape", "layer"),
    [
        ("lenet5_1998", (1, 32, 32), "c3_squash"),
        ("lenet5_small", (1, 28, 28), None),
        ("fashion_cnn", (1, 28, 28), None),
        ("resnet18", (3, 64, 64), "layer4.1.activation"),
        ("mlp", (1, 28, 28), "none"),
    ],
)
def test_every_kind_of_network_can_be_looked_into(rng, name, shape, layer):
    model, x = models.create(name), floats(rng, 2, *shape)
    assert insight.saliency(model, x).maps.shape == (2, *shape[1:])
    assert len(insight.activation_statistics(model, x).layers) == len(insight.activations(model, x))
    if layer == "none":
        with pytest.raises(ValueError, match="the network has no convolution"):
            insight.grad_cam(model, x)
        return
    found = insight.grad_cam(model, x)
    assert layer in (None, found.layer)
    assert found.maps.shape == (2, *shape[1:])
    field = insight.receptive_field(model, found.layer, shape)
    assert field.output_shape[1:] == found.coarse.shape[1:]
    assert insight.top_patches(model, x, found.layer, [0], 1).patches.shape[3:] in (
        field.size,
        shape[1:],
    )


def test_the_predicted_class_is_the_default(lenet, digits):
    x = digits.x[:6]
    predicted = lenet.predict(x).argmax(axis=1)
    for explain in (insight.saliency, insight.grad_cam):
        found = explain(lenet, x)
        np.testing.assert_array_equal(found.targets, predicted)
        assert (found.probabilities > 0.1).all()


def test_explanations_take_images_in_bytes(rng):
    images = data.Images(rng.integers(0, 256, (3, 3, 16, 16), np.uint8))
    model = models.resnet20()
    np.testing.assert_array_equal(
        insight.saliency(model, images, 1).maps, insight.saliency(model, images[:], 1).maps
    )


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (10, ValueError, "saliency: target is out of range: expected classes from 0 to 9, got 10"),
        ([1, 2, 3], ValueError, "expected one class, or 2 (one per image), got (3,)"),
        (0.5, TypeError, "target has the wrong dtype: expected integers (classes), got float64"),
    ],
)
def test_targets_are_checked(lenet, digits, target, error, message):
    with pytest.raises(error, match=re.escape(message)):
        insight.saliency(lenet, digits.x[:2], target)


def test_only_classifiers_have_scores(rng):
    model = nn.Sequential(nn.Conv2d(1, 1, 3))
    for explain in (insight.saliency, insight.grad_cam):
        with pytest.raises(ValueError, match="the network is no classifier: expected an output"):
            explain(model, floats(rng, 1, 1, 5, 5))


def test_grad_cam_needs_maps(rng, lenet):
    with pytest.raises(ValueError, match="grad_cam: layer returns no maps: expected one of '0', "):
        insight.grad_cam(lenet, floats(rng, 1, 1, 28, 28), layer="7")
    dense = nn.Sequential(nn.Flatten(), nn.Linear(9, 2))
    with pytest.raises(ValueError, match="the network has no convolution with more than one pixel"):
        insight.grad_cam(dense, floats(rng, 1, 1, 3, 3))


# ---- adversarial examples ------------------------------------------------------------------------


def attack(lenet, digits, epsilon):
    return insight.fgsm(lenet, digits.x, digits.y, epsilon, mean=digits.mean, std=digits.std)


def test_fgsm_raises_the_loss_and_stays_within_its_limits(lenet, digits):
    found = attack(lenet, digits, 0.1)
    assert (found.loss_after >= found.loss_before).mean() > 0.99
    assert found.loss_after.mean() > 2 * found.loss_before.mean()
    assert found.accuracy_after < found.accuracy_before
    before, after = (
        x * np.float32(digits.std[0]) + np.float32(digits.mean[0])
        for x in (found.images, found.adversarial)
    )
    assert np.abs(after - before).max() <= 0.1 + 1e-5
    assert after.min() >= -1e-5
    assert after.max() <= 1 + 1e-5
    assert found.fooled.sum() > 0
    np.testing.assert_array_equal(found.after, lenet.predict(found.adversarial).argmax(axis=1))


def test_fgsm_moves_along_the_sign_of_the_gradient(rng):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model[1].weight.data[:] = [[1, -1, 2, 0], [0, 0, 0, 0]]
    x = np.full((1, 1, 2, 2), 0.5, np.float32)
    found = insight.fgsm(model, x, [0], 0.25)
    np.testing.assert_array_equal(found.adversarial.ravel(), [0.25, 0.75, 0.25, 0.5])
    found = insight.fgsm(model, x, [0], 0.75)  # black and white are the ends
    np.testing.assert_array_equal(found.adversarial.ravel(), [0, 1, 0, 0.5])


def test_fgsm_of_nothing_changes_nothing(lenet, digits):
    found = attack(lenet, digits, 0)
    np.testing.assert_allclose(found.adversarial, found.images, atol=1e-5)
    assert found.accuracy_after == found.accuracy_before


def test_the_curve_is_made_of_attacks(lenet, digits):
    part = {"mean": digits.mean, "std": digits.std}
    x, y = digits.x[:40], digits.y[:40]
    curve = insight.adversarial_curve(lenet, x, y, [0, 0.05, 0.3], **part, batch_size=16)
    for epsilon, accuracy, one in zip(curve.epsilons, curve.accuracy, curve.attacks, strict=True):
        alone = insight.fgsm(lenet, x, y, epsilon, **part)
        assert one.epsilon == epsilon
        assert accuracy == alone.accuracy_after
        np.testing.assert_allclose(one.loss_after, alone.loss_after, rtol=1e-3, atol=1e-4)
    assert curve.accuracy[2] < curve.accuracy[0]


@pytest.mark.parametrize(
    ("y", "epsilon", "message"),
    [
        ([0, 1], 2, "fgsm: epsilon is out of range: expected 0 to 1 (8 / 255 moves a byte by 8)"),
        ([0, 12], 0.1, "fgsm: y is out of range: expected classes from 0 to 9, got 12"),
        ([0], 0.1, "fgsm: y has the wrong shape: expected one class, or 2"),
        ([0, 1], 0.1, "fgsm: x has pixels out of range: expected x * std + mean in [0, 1], got"),
    ],
)
def test_fgsm_rejects(lenet, digits, y, epsilon, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        insight.fgsm(lenet, digits.x[:2], y, epsilon)
