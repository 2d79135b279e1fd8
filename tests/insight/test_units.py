"""Receptive fields, patches, dissection, statistics, filters, feature maps."""

from __future__ import annotations

import re

import numpy as np
import pytest

from convcore import insight, models, nn
from convcore.insight._receptive_field import upsampling
from helpers import floats

# ---- receptive fields ----------------------------------------------------------------------------


def seen_pixels(model, layer, shape, position):
    """Return the span of pixels whose change is noticed by a unit: by changing them one by one.

    All weights are positive, and so is the image: then a brighter pixel never gets lost.
    """
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data[:] = rng.uniform(0.5, 1.5, parameter.shape)
    x = rng.uniform(0.5, 1.5, (1, *shape)).astype(np.float32)
    pixels = np.indices(shape[1:]).reshape(2, -1).T
    changed = np.repeat(x, len(pixels), axis=0)
    changed[np.arange(len(pixels)), :, pixels[:, 0], pixels[:, 1]] += 1000
    before = insight.activations(model, x, [layer])[layer]
    after = insight.activations(model, changed, [layer])[layer]
    noticed = (after != before).reshape(*after.shape[: 2 + len(position)], -1).any(axis=(1, -1))
    noticed = noticed[(slice(None), *position)] if position else noticed
    seen = pixels[noticed]
    return tuple((int(axis.min()), int(axis.max()) + 1) for axis in seen.T)


def block(channels, width, stride=1):
    body = nn.Sequential(
        nn.Conv2d(channels, width, 3, stride, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
    )
    same = stride == 1 and channels == width
    return nn.Residual(
        body, None if same else nn.PadChannels((width - channels) // 2, stride), nn.ReLU()
    )


def named_block(channels, width, stride):
    layers = {
        "conv1": nn.Conv2d(channels, width, 3, stride, padding=1),
        "relu1": nn.ReLU(),
        "conv2": nn.Conv2d(width, width, 3, padding=1),
    }
    downsample = None if stride == 1 else nn.Sequential(nn.Conv2d(channels, width, 1, stride))
    return nn.ResidualBlock(layers, downsample, nn.ReLU())


NETWORKS = {
    "strides": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, 2), nn.ReLU(), nn.Conv2d(2, 2, (3, 2), (1, 2))
    ),
    "padding": lambda: nn.Sequential(nn.Conv2d(1, 1, 5, padding=2), nn.MaxPool2d(3, 2, 1)),
    "uneven": lambda: nn.Sequential(
        nn.Conv2d(1, 1, 4, padding=((2, 1), (0, 3))), nn.AvgPool2d(2, ceil_mode=True)
    ),
    "same": lambda: nn.Sequential(nn.Conv2d(1, 1, 4, padding="same"), nn.MaxPool2d(2)),
    "reflect": lambda: nn.Sequential(nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect")),
    "replicate": lambda: nn.Sequential(nn.Conv2d(1, 1, 5, 2, padding=2, padding_mode="replicate")),
    "circular": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")),
    "subsampling": lambda: nn.Sequential(nn.Subsampling2d(1, 2), nn.LPPool2d(2, 3, 1)),
    "stochastic": lambda: nn.Sequential(nn.Conv2d(1, 1, 3), nn.StochasticPool2d(2)),
    "bins": lambda: nn.Sequential(nn.AdaptiveMaxPool2d((4, 3)), nn.Conv2d(1, 1, 2)),
    "dilation": lambda: nn.Sequential(nn.Conv2d(1, 1, 3, dilation=2), nn.MaxPool2d(2, 2, 0, 2)),
    "leftover": lambda: nn.Sequential(nn.MaxPool2d(2, 3), nn.Conv2d(1, 1, 3, padding=1)),
    "residual": lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), block(2, 2), block(2, 4, 2)),
    "named": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), named_block(2, 4, 2), named_block(4, 4, 1)),
    "inside": lambda: nn.Sequential(block(1, 1), nn.AdaptiveAvgPool2d(3)),
    "dense": lambda: nn.Sequential(
        nn.Conv2d(1, 1, 3, 2), nn.Flatten(), nn.Linear(20, 3), nn.ReLU()
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_receptive_field_is_the_region_whose_pixels_matter(name):
    model, shape = NETWORKS[name](), (1, 11, 9)
    if name == "inside":
        shape = (1, 11, 8)
    for layer, y in insight.activations(model, np.zeros((0, *shape), np.float32)).items():
        positions = {()}
        if y.ndim == 4:
            last = tuple(size - 1 for size in y.shape[2:])
            positions = {(0, 0), last, (last[0] // 2, last[1] // 2)}
        for position in positions:
            found = insight.receptive_field(model, layer, shape, position)
            assert found.pixels == seen_pixels(model, layer, shape, position), (layer, position)


def test_receptive_field_of_lenet5_is_that_of_the_arithmetic():
    field = insight.receptive_field(models.lenet5(), "5", (1, 28, 28), (1, 2))
    # conv 5 padding 2; pool 2; conv 5; pool 2
    want = {"0": (5, 1, -2), "2": (6, 2, -2), "3": (14, 2, -2), "5": (16, 4, -2)}
    found = {row.name: (row.size[0], row.jump[0], row.start[0]) for row in field.rows}
    assert {name: found[name] for name in want} == want
    assert field.window() == ((2, 18), (6, 22)) == field.pixels
    assert "unit (1, 2) of layer '5' sees rows 2 to 17 and columns 6 to 21" in str(field)


def test_receptive_fields_of_a_resnet():
    model = models.resnet20()
    # A block has two 3x3 convolutions: 4 pixels more, times the jump; the first of a stage has
    # one before and one behind its stride.
    want = {"conv1": 3, "layer1.2": 15, "layer2.0": 15 + 2 + 4, "layer2.2": 37, "layer3.2": 81}
    for name, size in want.items():
        field = insight.receptive_field(model, name, (3, 32, 32))
        assert (field.size[0], field.jump[0]) == (size, {15: 1, 3: 1, 81: 4}.get(size, 2)), name
        assert field.rows[-1].name == name


def test_receptive_field_of_sequences():
    model = nn.Sequential(nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.MaxPool1d(2))
    field = insight.receptive_field(model, "1", (2, 16), (0,))
    assert (field.size, field.jump, field.start, field.pixels) == ((5,), (4,), (-1,), ((0, 4),))


class Own(nn.Module):
    def __init__(self):
        self.layer = nn.ReLU()

    def forward(self, x):
        return self.layer(x)

    def backward(self, dy, need_dx=True):
        return self.layer.backward(dy, need_dx=need_dx)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("9", (1, 8, 8)), "receptive_field: layer is not known: expected one of '0', '1.layer',"),
        (("0", (1, 8, 8), (6, 0)), "expected 2 indices below (6, 6), got (6, 0)"),
        (("0", (1, 8, 8), (1,)), "expected 2 indices below (6, 6), got (1,)"),
        (
            ("2", (1, 8, 8)),
            "a container of its own kind: expected Sequential and residual blocks, got Own",
        ),
        (("0", (2, 8, 8)), "layer '0' (Conv2d) does not fit its input of shape (N, 2, 8, 8)"),
    ],
)
def test_receptive_field_rejects(arguments, message):
    model = nn.Sequential(nn.Conv2d(1, 1, 3), Own(), nn.ReLU())
    with pytest.raises(ValueError, match=re.escape(message)):
        insight.receptive_field(model, *arguments)


def test_maps_of_the_images_size_are_not_changed_by_upsampling():
    model = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1))
    for matrix, size in zip(upsampling(model, "0", (1, 5, 7), (1, 5, 7)), (5, 7), strict=True):
        np.testing.assert_array_equal(matrix, np.eye(size))


def test_upsampling_hits_the_values_at_the_centres():
    model = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2))
    rows, _ = upsampling(model, "0", (1, 9, 9), (1, 4, 4))
    values = np.array([1, 5, 2, 4], np.float32)
    np.testing.assert_allclose(rows @ values, [1, 1, 3, 5, 3.5, 2, 3, 4, 4])
    np.testing.assert_allclose(rows.sum(axis=1), 1)


# ---- patches -------------------------------------------------------------------------------------


def test_top_patches_are_the_strongest(lenet, digits):
    x = digits.x[:50]
    found = insight.top_patches(lenet, x, "1", units=[4, 1], top=5, batch_size=16)
    y = insight.activations(lenet, x, ["1"])["1"]
    for u, unit in enumerate((4, 1)):
        peaks = y[:, unit].max(axis=(1, 2))
        np.testing.assert_array_equal(found.values[u], np.sort(peaks)[::-1][:5])
        assert len(set(found.images[u])) == 5
        for value, image, (row, column) in zip(
            found.values[u], found.images[u], found.positions[u], strict=True
        ):
            assert y[image, unit, row, column] == value


def test_a_patch_alone_excites_the_unit_as_much(lenet, digits):
    found = insight.top_patches(lenet, digits.x[:50], "0", top=3)
    assert found.patches.shape == (6, 3, 1, 5, 5)
    weight, bias = lenet[0].weight.data, lenet[0].bias.data
    for u, unit in enumerate(found.units):
        for patch, value in zip(found.patches[u], found.values[u], strict=True):
            assert (np.nan_to_num(patch) * weight[unit]).sum() + bias[unit] == pytest.approx(
                value, rel=1e-4, abs=1e-5
            )


def test_units_of_vectors_see_whole_images(lenet, digits):
    found = insight.top_patches(lenet, digits.x[:20], "11", units=[3], top=2)
    assert found.patches.shape == (1, 2, 1, 28, 28)
    np.testing.assert_array_equal(found.patches[0, 0], digits.x[found.images[0, 0]])


def test_patches_do_not_depend_on_the_batches(rng):
    model, x = models.resnet20(), floats(rng, 7, 3, 16, 16)
    found = [insight.top_patches(model, x, "layer2.0", top=3, batch_size=b) for b in (3, 7)]
    np.testing.assert_array_equal(found[0].images, found[1].images)


@pytest.mark.parametrize("units", [[6], [-1], [], [0.5]])
def test_top_patches_rejects_units(lenet, digits, units):
    with pytest.raises(ValueError, match=r"top_patches: units .* expected indices below 6, got"):
        insight.top_patches(lenet, digits.x[:2], "1", units=units)


# ---- dissection ----------------------------------------------------------------------------------


def test_a_unit_agrees_with_itself(rng):
    model, x = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()), floats(rng, 20, 1, 9, 9)
    share = 0.1
    y = insight.activations(model, x, ["1"])["1"]
    masks = {}
    for unit in range(3):
        values = np.sort(y[:, unit].ravel())[::-1]
        masks[f"unit {unit}"] = y[:, unit] > values[int(share * values.size)]
    masks["never"] = np.zeros((20, 9, 9), bool)
    masks["not unit 0"] = ~masks["unit 0"]
    found = insight.dissect(model, x, masks, share=share, batch_size=6)
    assert found.layer == "1"
    np.testing.assert_array_equal(np.diag(found.iou), np.ones(3))
    assert [concept for _, concept, _ in found.best()] == ["unit 0", "unit 1", "unit 2"]
    np.testing.assert_array_equal(found.iou[:, 3], np.zeros(3))
    assert found.iou[0, 4] == 0
    assert found.iou.min() >= 0
    assert found.iou.max() <= 1


def test_no_more_than_the_share_is_active(lenet, digits):
    x = digits.x[:60]
    masks = {"all": np.ones((60, 28, 28), bool)}
    found = insight.dissect(lenet, x, masks, "1", share=0.02)
    y = insight.activations(lenet, x, ["1"])["1"]
    active = (y > found.thresholds[None, :, None, None]).mean(axis=(0, 2, 3))
    assert (active <= 0.02).all()
    np.testing.assert_allclose(found.iou[:, 0], active, atol=1e-6)  # the layer has the images' size


def test_a_dead_unit_is_active_nowhere(rng):
    model, x = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU()), floats(rng, 4, 1, 6, 6)
    model[0].bias.data[:] = -100
    found = insight.dissect(model, x, {"all": np.ones((4, 6, 6), bool)})
    assert found.iou[0, 0] == 0


@pytest.mark.parametrize(
    ("masks", "more", "message"),
    [
        ({}, {}, "dissect: masks is empty: expected at least one concept, got 0"),
        (
            {"a": np.zeros((2, 6, 5), bool)},
            {},
            "the mask of 'a' does not fit: expected booleans of",
        ),
        ({"a": np.zeros((2, 6, 6))}, {}, "expected booleans of shape (2, 6, 6), got float64 of"),
        ({"a": np.zeros((2, 6, 6), bool)}, {"share": 1}, "share is out of range: expected 0 to 1"),
        (
            {"a": np.zeros((2, 6, 6), bool)},
            {"layer": "2"},
            "layer returns no maps: expected one of",
        ),
    ],
)
def test_dissect_rejects(masks, more, message):
    model = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Flatten())
    with pytest.raises(ValueError, match=re.escape(message)):
        insight.dissect(model, np.zeros((2, 1, 6, 6), np.float32), masks, **more)


# ---- concepts ------------------------------------------------------------------------------------


def drawn(*parts):
    image = np.zeros((1, 1, 16, 16), np.float32)
    for rows, columns in parts:
        image[0, 0, slice(*rows), slice(*columns)] = 1
    return insight.concepts(image)


def test_concepts_of_a_bar():
    masks = drawn(((2, 14), (7, 10)))
    assert masks["vertical stroke"][0, 8, 8]
    assert not masks["horizontal stroke"].any()
    assert masks["left edge"][0, 8, 6]
    assert masks["right edge"][0, 8, 10]
    assert masks["top edge"][0, 1, 8]
    assert masks["bottom edge"][0, 14, 8]
    assert not masks["hole"].any()


def test_concepts_of_diagonals():
    image = np.zeros((2, 1, 16, 16), np.float32)
    for i in range(2, 14):
        image[0, 0, i, max(0, i - 1) : i + 2] = 1  # downwards to the right
        image[1, 0, 15 - i, max(0, i - 1) : i + 2] = 1
    masks = insight.concepts(image)
    assert masks["falling stroke"][0, 8, 8]
    assert masks["rising stroke"][1, 7, 8]
    assert not masks["rising stroke"][0].any()


def test_concepts_of_a_ring():
    ring = np.zeros((1, 1, 16, 16), np.float32)
    ring[0, 0, 3:13, 3:13] = 1
    ring[0, 0, 5:11, 5:11] = 0
    masks = insight.concepts(ring)
    np.testing.assert_array_equal(masks["hole"][0, 5:11, 5:11], True)
    assert masks["hole"].sum() == 36
    quarters = [masks[name] for name in ("upper left", "upper right", "lower left", "lower right")]
    np.testing.assert_array_equal(sum(q.astype(int) for q in quarters), masks["ink"])


def test_concepts_of_colours():
    image = np.zeros((1, 3, 4, 4), np.float32)
    image[0, 0, :2] = 1
    image[0, :, 2:] = 1
    masks = insight.concepts(image)
    np.testing.assert_array_equal(masks["red"][0, :2], True)
    assert not masks["red"][0, 2:].any()
    assert not masks["blue"].any()


@pytest.mark.parametrize(
    ("shape", "value", "message"),
    [
        ((1, 2, 4, 4), 0, "expected 1 or 3, got 2"),
        ((1, 1, 4, 4), 2, "images are out of range: expected [0, 1], got 2 to 2 (undo the"),
        ((1, 4, 4), 0, "expected images (N, C, H, W), got x of shape (1, 4, 4) (pass x[None]"),
    ],
)
def test_concepts_reject(shape, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        insight.concepts(np.full(shape, value, np.float32))


# ---- statistics ----------------------------------------------------------------------------------


def test_statistics_are_those_of_all_values(rng):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    model[0].weight.data[1], model[0].bias.data[1] = 0, -1
    x = floats(rng, 7, 2, 6, 6)
    found = {row.name: row for row in insight.activation_statistics(model, x, batch_size=3).layers}
    for name, y in insight.activations(model, x).items():
        row = found[name]
        wide = y.astype(np.float64)
        assert row.mean == pytest.approx(wide.mean(), abs=1e-6)
        assert row.std == pytest.approx(wide.std(), rel=1e-5)
        assert (row.minimum, row.maximum) == pytest.approx((y.min(), y.max()))
        assert row.zeros == (y == 0).mean()
    assert (found["0"].dead, found["1"].dead, found["1"].units) == (0, 1, 4)


def test_statistics_need_images(lenet):
    with pytest.raises(ValueError, match="x has no samples: expected at least 1, got 0"):
        insight.activation_statistics(lenet, np.zeros((0, 1, 28, 28), np.float32))


# ---- filters and feature maps --------------------------------------------------------------------


def test_filters_are_a_copy_of_the_weights():
    model = models.resnet20()
    found = insight.filters(model)
    assert (found.layer, found.weights.shape) == ("conv1", (16, 3, 3, 3))
    np.testing.assert_array_equal(found.weights, model.conv1.weight.data)
    assert not np.shares_memory(found.weights, model.conv1.weight.data)
    np.testing.assert_allclose(found.sums, model.conv1.weight.data.sum(axis=(1, 2, 3)))


def test_filters_of_dense_layers_are_templates():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    assert insight.filters(model, input_shape=(3, 2, 2)).weights.shape == (5, 3, 2, 2)
    with pytest.raises(ValueError, match="layer '1' is dense: expected the shape"):
        insight.filters(model)
    with pytest.raises(ValueError, match="layer has no filters: expected one of '1', got '0'"):
        insight.filters(model, "0")


def test_feature_maps_are_of_one_image(lenet, digits):
    found = insight.feature_maps(lenet, digits.x[2])
    np.testing.assert_array_equal(
        found.maps["4"], insight.activations(lenet, digits.x[2:3])["4"][0]
    )
    assert len(str(found).splitlines()) == 2 + 12
    with pytest.raises(ValueError, match="image is a batch: expected one image, got 3"):
        insight.feature_maps(lenet, digits.x[:3])
