"""The planned engine on the GPU, or on the emulated one: a step is one recorded graph, replayed."""

from __future__ import annotations

import numpy as np
import pytest

import convcore
from convcore import data, models, nn, optim, transforms

if not convcore.cuda.is_available():
    pytest.skip(f"CUDA is not available: {convcore.cuda.reason()}", allow_module_level=True)


def small_net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Residual(
            nn.Sequential(
                nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.Conv2d(16, 16, 3, padding=1, bias=False),
                nn.BatchNorm2d(16),
            ),
            shortcut=nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16)),
            activation=nn.ReLU(),
        ),
        nn.Conv2d(16, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.25),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


def images(count=22):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((count, 3, 8, 8)).astype(np.float32)
    return x, rng.integers(0, 5, count)


def fit(device, make=small_net, x=None, y=None, epochs=2, batch_size=4, **options):
    """Train without callbacks, so that one call runs all whole batches of an epoch."""
    convcore.manual_seed(5)
    model = make()
    compiled = {"optimizer": lambda p: optim.Adam(p, lr=0.01), **options.pop("compile", {})}
    model.compile(**compiled)
    if x is None:
        x, y = images()
    history = model.fit(
        x, y, epochs=epochs, batch_size=batch_size, verbose=0, device=device, **options
    )
    return model, history.history["loss"]


def assert_same(rtol=2e-4, **options):
    _, want = fit("cpu", **options)
    cuda, got = fit("cuda", **options)
    assert cuda._told is None  # planned, not layer by layer
    np.testing.assert_allclose(got, want, rtol=rtol)
    return cuda


def test_replayed_steps_take_new_images_keys_rates_and_step_numbers():
    # Shuffled and augmented images, dropout, Adam's bias correction, and a last batch of two.
    model = assert_same(augment=data.Augment(pad=1, flip=True))
    assert model._planned.plan.kernel_nodes(4, True) > 0
    assert model._planned.plan.kernel_nodes(4, False) == 0  # nothing was predicted


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3, l1=1e-5),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
        lambda p: optim.Adagrad(p, lr=0.05, max_norm=1.0),
    ],
    ids=["sgd", "rmsprop", "adagrad-max-norm"],
)
def test_the_rules_of_the_optimizers(optimizer):
    assert_same(compile={"optimizer": optimizer})


def test_clipped_gradients():
    assert_same(compile={"clip_grad_norm": 0.05})


def test_shares_of_classes_and_values_as_targets():
    x, y = images()
    assert_same(x=x, y=y, augment=transforms.MixUp(0.4))
    values = np.random.default_rng(2).standard_normal((len(x), 5)).astype(np.float32)
    assert_same(x=x, y=values, compile={"loss": "mse"})


def test_a_data_set_of_bytes():
    rng = np.random.default_rng(3)
    raw = rng.integers(0, 256, (22, 3, 8, 8), dtype=np.uint8)
    x = data.Images(raw, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25))
    assert_same(x=x, y=images()[1])


def test_the_same_bits_every_time():
    first, second = (fit("cuda")[0].state_dict() for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name], err_msg=name)


@pytest.mark.parametrize(("precision", "rtol"), [("tf32x3", 2e-4), ("tf32", 2e-2), ("bf16", 6e-2)])
def test_precisions_change_the_products_alone(precision, rtol):
    _, want = fit("cuda", epochs=1)
    model, got = fit("cuda", epochs=1, compile={"precision": precision})
    assert got != want
    np.testing.assert_allclose(got, want, rtol=rtol)
    assert all(p.data.dtype == np.float32 for p in model.parameters())


def test_predictions_follow_the_weights():
    model, _ = fit("cuda", epochs=1)
    x, _ = images()
    before = model.predict(x, batch_size=4)
    np.testing.assert_array_equal(model.predict(x, batch_size=4), before)
    model[0].weight.data = convcore.to_device(2 * model[0].weight.data.numpy(), "cuda")
    model[-1].bias.data = convcore.to_device(model[-1].bias.data.numpy() + 1, "cuda")
    after = model.predict(x, batch_size=4)
    model.to("cpu")
    np.testing.assert_allclose(after, model.predict(x), rtol=1e-3, atol=1e-4)
    assert not np.array_equal(after, before)


def test_a_step_of_resnet20_is_at_most_60_kernels():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((6, 3, 32, 32)).astype(np.float32), np.arange(6)
    model, _ = fit("cuda", models.resnet20, x, y, epochs=1, batch_size=2)
    assert 0 < model._planned.plan.kernel_nodes(2, True) <= 60
