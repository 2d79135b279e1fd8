"""CIFAR-10: binary batches, unpacked or in the archive."""

from __future__ import annotations

import io
import pickle
import re
import struct
import tarfile

import numpy as np
import pytest

from convcore import data
from convcore.data import _cifar10
from data_files import write

COUNT = 4  # images in a batch here, instead of 10,000
NAMES = [*_cifar10.BATCHES["train"], *_cifar10.BATCHES["test"]]


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(_cifar10, "RECORDS", COUNT)


@pytest.fixture
def batches(rng):
    """Give the six batches (name -> records)."""
    records = rng.integers(0, 256, (len(NAMES), COUNT, 3073), np.uint8)
    records[:, :, 0] %= 10
    return dict(zip(NAMES, records, strict=True))


def as_bytes(batches, prefix=""):
    return {prefix + name: records.tobytes() for name, records in batches.items()}


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return {"cifar-10-binary.tar.gz": buffer.getvalue()}


def load(folder, split="train"):
    return data.load_uint8("cifar10", split, data_dir=folder, download=False)


def check(folder, batches):
    for split, names in _cifar10.BATCHES.items():
        images, labels = load(folder, split)
        records = np.concatenate([batches[name] for name in names])
        np.testing.assert_array_equal(labels, records[:, 0])
        np.testing.assert_array_equal(images, records[:, 1:].reshape(-1, 3, 32, 32))
        assert labels.dtype == np.int64


@pytest.mark.parametrize(
    "place", ["", "cifar-10-batches-bin/", "cifar10/", "cifar10/cifar-10-batches-bin/"]
)
def test_cifar10_reads_batches(tmp_path, batches, place):
    check(write(tmp_path, as_bytes(batches, place)), batches)


@pytest.mark.parametrize("prefix", ["", "./"])
def test_cifar10_reads_the_archive(tmp_path, batches, prefix):
    # Any order of the members; other files among them.
    files = as_bytes(dict(reversed(batches.items())), f"{prefix}cifar-10-batches-bin/")
    files = {f"{prefix}cifar-10-batches-bin/readme.html": b"read me", **files}
    check(write(tmp_path, archive(files)), batches)
    assert [path.name for path in tmp_path.iterdir()] == ["cifar-10-binary.tar.gz"]


def python2_pickle(records):
    """Return a batch as Python 2 and its NumPy pickled the published ones: with strings of bytes."""

    def string(value):
        return b"T" + struct.pack("<I", len(value)) + value

    def integer(value):
        return b"J" + struct.pack("<i", value)

    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + integer(0) + b"\x85"
    array += string(b"b") + b"\x87R"
    kind = b"cnumpy\ndtype\n" + string(b"u1") + integer(0) + integer(1) + b"\x87R("
    kind += integer(3) + string(b"|") + b"NNN" + integer(-1) * 2 + integer(0) + b"tb"
    pixels = records[:, 1:]
    array += b"(" + integer(1) + integer(len(pixels)) + integer(pixels.shape[1]) + b"\x86" + kind
    array += b"\x89" + string(pixels.tobytes()) + b"tb"
    labels = b"](" + b"".join(integer(int(label)) for label in records[:, 0]) + b"e"
    return b"\x80\x02}(" + string(b"data") + array + string(b"labels") + labels + b"u."


def as_pickles(batches, prefix=""):
    pickles = {name: python2_pickle(records) for name, records in batches.items()}
    return {prefix + name.removesuffix(".bin"): pickles[name] for name in pickles}


@pytest.mark.parametrize("place", ["", "cifar-10-batches-py/", "cifar10/cifar-10-batches-py/"])
def test_cifar10_reads_python_batches(tmp_path, batches, place):
    check(write(tmp_path, as_pickles(batches, place)), batches)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_cifar10_reads_python_batches_that_were_pickled_again(tmp_path, batches, protocol):
    for name, records in batches.items():
        batch = {b"data": records[:, 1:].copy(), b"labels": records[:, 0].tolist()}
        content = pickle.dumps({**batch, b"batch_label": b"1 of 5"}, protocol)
        write(tmp_path, {name.removesuffix(".bin"): content})
    check(tmp_path, batches)


def test_cifar10_reads_the_python_archive(tmp_path, batches):
    files = archive(as_pickles(batches, "cifar-10-batches-py/"))
    write(tmp_path, {"cifar-10-python.tar.gz": files["cifar-10-binary.tar.gz"]})
    check(tmp_path, batches)


class Evil:
    def __reduce__(self):
        return print, ("code from a file",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "test_batch is truncated or corrupt: expected a batch of CIFAR-10 for Python"),
        (pickle.dumps([1, 2]), "test_batch is truncated or corrupt"),
        (pickle.dumps(Evil(), 2), "got: it holds __builtin__.print"),
        (
            pickle.dumps({b"data": np.zeros((3, 3), np.uint8), b"labels": [1, 2]}, 2),
            "test_batch is another file: expected 4 images of 3072 bytes and their labels, got data "
            "of shape (3, 3) and labels of shape (2,)",
        ),
    ],
)
def test_cifar10_rejects_broken_python_batches(tmp_path, content, message, capsys):
    write(tmp_path, {"test_batch": content})
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path, "test")
    assert capsys.readouterr().out == ""


def test_cifar10_rejects_a_label_in_a_python_batch(tmp_path, batches):
    batch = {b"data": batches["test_batch.bin"][:, 1:].copy(), b"labels": [0, 1, 300, 2]}
    write(tmp_path, {"test_batch": pickle.dumps(batch, protocol=2)})
    with pytest.raises(ValueError, match=r"holds a label out of range: expected 0 to 9, got 255"):
        load(tmp_path, "test")


def test_cifar10_load_standardises_each_channel(tmp_path, batches):
    write(tmp_path, as_bytes(batches))
    images, _ = load(tmp_path)
    train = data.load("cifar10", data_dir=tmp_path)
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (train.mean, train.std))
    np.testing.assert_allclose(train.x, (images / 255 - mean) / std, atol=1e-5)
    assert train.x.dtype == np.float32
    assert train.classes[3] == "cat"
    assert len(train.classes) == 10


def test_cifar10_missing_names_every_file(tmp_path, batches):
    with pytest.raises(
        FileNotFoundError, match=r"missing data_batch_1\.bin, .*data_batch_5\.bin, or cif"
    ):
        load(tmp_path)
    files = as_bytes(batches, "cifar-10-batches-bin/")
    del files["cifar-10-batches-bin/data_batch_3.bin"]
    write(tmp_path, files)
    message = f"{tmp_path}: missing cifar-10-batches-bin/data_batch_3.bin\n"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        load(tmp_path)


# ---- bad files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "what"),
    [
        (COUNT * 3073 - 1, "is truncated"),
        ((COUNT - 1) * 3073, "is truncated"),
        (0, "is truncated"),
        (COUNT * 3073 + 1, "has extra bytes at the end"),
    ],
)
def test_cifar10_wrong_size(tmp_path, batches, size, what):
    path = write(tmp_path, as_bytes(batches)) / "data_batch_2.bin"
    path.write_bytes((path.read_bytes() + b"\0")[:size])
    message = f"load: {path} {what}: expected {COUNT * 3073} bytes ({COUNT} images), got {size}"
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path)
    assert path.stat().st_size == size


def test_cifar10_label_out_of_range(tmp_path, batches):
    batches["data_batch_4.bin"][2, 0] = 10
    write(tmp_path, as_bytes(batches))
    message = (
        f"load: {tmp_path / 'data_batch_4.bin'} holds a label out of range: "
        "expected 0 to 9, got 10 at index 2"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "text"])
def test_cifar10_broken_archive(tmp_path, batches, damage):
    files = archive(as_bytes(batches, "cifar-10-batches-bin/"))
    path = write(tmp_path, files) / "cifar-10-binary.tar.gz"
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    if damage == "flipped":
        content[middle : middle + 200] = bytes(200)
    broken = {"empty": b"", "half": content[:middle], "flipped": content, "text": b"<html>" * 99}
    path.write_bytes(broken[damage])
    message = f"load: {path} is truncated or corrupt: expected a complete tar.gz archive, got: "
    with pytest.raises(ValueError, match=re.escape(message)):
        load(tmp_path)
    assert path.read_bytes() == broken[damage]


def test_cifar10_other_archive(tmp_path, batches):
    write(tmp_path, archive(as_bytes(batches, "cifar-100-binary/")))
    with pytest.raises(ValueError, match="is truncated or another archive: expected it to hold"):
        load(tmp_path)


# ---- the real data -------------------------------------------------------------------------------


@pytest.mark.slow
def test_real_cifar10_has_the_known_mean(real_data, tmp_path, monkeypatch):
    import subprocess
    import sys

    pytest.importorskip("PIL", reason="Pillow is not installed")
    monkeypatch.setattr(_cifar10, "RECORDS", 10_000)
    unpack = real_data / "unpack_cifar10.py"
    if not unpack.is_file():
        pytest.skip(f"no real CIFAR-10: {unpack} is missing")
    subprocess.run([sys.executable, str(unpack), str(tmp_path)], check=True, capture_output=True)
    images, labels = load(tmp_path)
    assert images.shape == (50_000, 3, 32, 32)
    assert np.bincount(labels).tolist() == [5000] * 10
    mean = images.mean((0, 2, 3), dtype=np.float64) / 255
    np.testing.assert_allclose(mean, [0.4913, 0.4821, 0.4465], atol=2e-4)  # as JPEG, re-encoded
    assert load(tmp_path, "test")[0].shape == (10_000, 3, 32, 32)
