"""Data sets: the shipped digits, and readers against files that independent code writes."""

from __future__ import annotations

import builtins
import gzip
import hashlib
import os
import pickle
import struct
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from convgrad.errors import ConvError, DataError
from convgrad.nn.data import load
from convgrad.nn.data.cifar import read_pickled_batch
from convgrad.nn.data.digits import held_out_positions, read_digits
from convgrad.nn.data.plain_pickle import PlainArray, read_plain_pickle
from convgrad.nn.data.source import SOURCES, split_spec

# the shipped digits


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        (
            "digits-images.idx3-ubyte",
            "359cd13f0f514122884198b78a131df597421cbf5e93a76678fa96fc548f0d96",
        ),
        (
            "digits-labels.idx1-ubyte",
            "ce71631c1f31ce56fa54f31d1d498fafacff59b001e6c30c4a5e29508aa277ad",
        ),
    ],
)
def test_shipped_digits_are_the_bytes_that_the_script_made(name: str, digest: str) -> None:
    content = (files("convgrad.nn.data") / name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == digest


def test_licence_stands_beside_the_digits() -> None:
    text = (files("convgrad.nn.data") / "DIGITS_LICENSE.md").read_text("utf-8")
    for words in ("Alpaydin", "Kaynak", "10.24432/C50P49", "CC BY 4.0"):
        assert words in text


def test_first_digit_is_the_zero_of_the_uci_file() -> None:
    images, labels = read_digits()
    first_line = (  # of optdigits.tes
        "0,0,5,13,9,1,0,0,0,0,13,15,10,15,5,0,0,3,15,2,0,11,8,0,0,4,12,0,0,8,8,0,"
        "0,5,8,0,0,9,8,0,0,4,11,0,1,12,7,0,0,2,14,5,10,12,0,0,0,0,6,13,10,0,0,0"
    )
    assert images.shape == (1797, 8, 8)
    assert images[0].ravel().tolist() == [int(value) for value in first_line.split(",")]
    assert images.max() == 16
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_stratified_split() -> None:
    data = load("digits")
    assert data.x_train.shape == (1437, 1, 8, 8)
    assert data.x_test.shape == (360, 1, 8, 8)
    assert np.bincount(data.y_test).tolist() == [36] * 10
    assert data.x_train.dtype == data.x_test.dtype == np.float32
    assert data.y_train.dtype == data.y_test.dtype == np.int64
    assert data.input_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    images, labels = read_digits()
    both = np.concatenate([data.x_train, data.x_test])[:, 0].reshape(1797, -1) * 16
    assert sorted(map(tuple, both.tolist())) == sorted(
        map(tuple, images.reshape(1797, -1).tolist())
    )
    zeros = [place for place in range(1797) if labels[place] == 0]
    taken = set(held_out_positions(labels).tolist())
    assert [z for z in zeros if z in taken] == [zeros[i * 178 // 36] for i in range(36)]


def test_split_by_writer_is_the_last_quarter() -> None:
    data = load("digits:by-writer")
    images, labels = read_digits()
    assert len(data.x_train) == 1348
    np.testing.assert_array_equal(data.x_test[:, 0] * 16, images[1348:])
    np.testing.assert_array_equal(data.y_test, labels[1348:])
    assert data.name == "digits:by-writer"


@pytest.mark.parametrize("spec", ["digits", "digits:by-writer"])
def test_mean_and_std_are_those_of_the_training_images(spec: str) -> None:
    data = load(spec)
    exact = data.x_train.astype(np.float64)
    assert data.mean.shape == data.std.shape == (1, 1, 1)
    assert data.mean.item() == pytest.approx(exact.mean(), rel=1e-6)
    assert data.std.item() == pytest.approx(exact.std(), rel=1e-6)


def test_repr_says_how_many() -> None:
    text = "Dataset(digits: 1,437 training and 360 test images of 1×8×8, 10 classes)"
    assert repr(load("digits")) == text


# what a person writes


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("mnist:C:\\data\\mnist", ("mnist", "C:\\data\\mnist")),
        ("Fashion-MNIST:/a b/数据", ("fashion-mnist", "/a b/数据")),
        ("digits", ("digits", "")),
    ],
)
def test_only_the_first_colon_separates(spec: str, parts: tuple[str, str]) -> None:
    assert split_spec(spec) == parts


@pytest.mark.parametrize("spec", ["imagenet", "C:\\data\\mnist", "", "./mnist"])
def test_unknown_names_list_the_known(spec: str) -> None:
    with pytest.raises(DataError) as caught:
        load(spec)
    assert all(source in str(caught.value) for source in SOURCES)
    assert isinstance(caught.value, ConvError)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_folder_is_needed(name: str) -> None:
    with pytest.raises(DataError, match=f"needs the folder .* {name}:<folder>"):
        load(name)


def test_unknown_split_of_the_digits() -> None:
    with pytest.raises(DataError, match="digits:by-writer"):
        load("digits:by-week")


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_no_such_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "mnits").mkdir()
    with pytest.raises(DataError, match=r"there is no folder .*mnist; .* holds: mnits"):
        load(f"{name}:{tmp_path / 'mnist'}")


def test_file_instead_of_folder(tmp_path: Path) -> None:
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(b"")
    with pytest.raises(DataError, match="is a file; give the folder that holds it") as caught:
        load(f"mnist:{file}")
    assert str(caught.value).endswith(f"mnist:{tmp_path}")


# IDX

TRAIN_X, TRAIN_Y = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_X, TEST_Y = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    head = bytes([0, 0, kind, values.ndim]) + struct.pack(f">{values.ndim}i", *values.shape)
    return head + values.tobytes()


def idx_arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    return {
        TRAIN_X: rng.integers(0, 256, (7, 28, 28), dtype=np.uint8),
        TRAIN_Y: np.array([0, 9, 3, 3, 1, 2, 8], np.uint8),
        TEST_X: rng.integers(0, 256, (3, 28, 28), dtype=np.uint8),
        TEST_Y: np.array([5, 0, 9], np.uint8),
    }


def write_idx(folder: Path, named: Callable[[str], str] = str, zipped: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in idx_arrays().items():
        content = idx(values)
        file = folder / named(name)
        file.write_bytes(gzip.compress(content, mtime=0) if zipped else content)


def assert_is_idx_arrays(spec: str) -> None:
    data, arrays = load(spec), idx_arrays()
    np.testing.assert_allclose(data.x_train[:, 0], arrays[TRAIN_X] / 255, rtol=1e-7)
    np.testing.assert_allclose(data.x_test[:, 0], arrays[TEST_X] / 255, rtol=1e-7)
    np.testing.assert_array_equal(data.y_train, arrays[TRAIN_Y])
    np.testing.assert_array_equal(data.y_test, arrays[TEST_Y])
    assert data.mean.item() == pytest.approx(np.mean(arrays[TRAIN_X] / 255), rel=1e-6)
    assert data.std.item() == pytest.approx(np.std(arrays[TRAIN_X] / 255), rel=1e-6)
    assert data.input_shape == (1, 28, 28)


def dotted(name: str) -> str:
    return name.replace("-idx", ".idx")


@pytest.mark.parametrize(
    ("named", "zipped"),
    [
        (str, False),
        (lambda name: f"{name}.gz", True),
        (dotted, False),
        (lambda name: f"{dotted(name)}.gz", True),
        (str, True),  # unzipped by name only
        (lambda name: f"{name}.gz", False),  # a browser unzipped it and kept the name
    ],
)
@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw", "我的 数据"])
def test_mnist(tmp_path: Path, named: Callable[[str], str], zipped: bool, place: str) -> None:
    write_idx(tmp_path / place, named, zipped)
    folder = tmp_path / place if place.startswith("我") else tmp_path
    assert_is_idx_arrays(f"mnist:{folder}")


def test_fashion_mnist(tmp_path: Path) -> None:
    write_idx(tmp_path / "FashionMNIST" / "raw", lambda name: f"{name}.gz", zipped=True)
    assert_is_idx_arrays(f"fashion-mnist:{tmp_path}")
    data = load(f"fashion-mnist:{tmp_path}")
    assert data.name == "fashion-mnist"
    assert (data.classes[0], data.classes[9], len(data.classes)) == (
        "T-shirt/top",
        "ankle boot",
        10,
    )


def test_home_and_drive_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_idx(tmp_path / "mnist")
    assert_is_idx_arrays("mnist:~/mnist")
    if os.name == "posix":  # there it is an ordinary name, so the whole of it must arrive
        monkeypatch.chdir(tmp_path)
        write_idx(tmp_path / "C:\\data\\mnist")
        assert_is_idx_arrays("mnist:C:\\data\\mnist")
    else:
        assert tmp_path.drive
        assert_is_idx_arrays(f"mnist:{tmp_path / 'mnist'}")


def test_constant_images_get_std_one(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / TRAIN_X).write_bytes(idx(np.full((7, 28, 28), 51, np.uint8)))
    data = load(f"mnist:{tmp_path}")
    assert data.mean.item() == np.float32(0.2)
    assert data.std.item() == 1.0


def test_which_idx_file_is_missing(tmp_path: Path) -> None:
    write_idx(tmp_path)
    (tmp_path / TEST_Y).rename(tmp_path / "labels")
    with pytest.raises(DataError) as caught:
        load(f"mnist:{tmp_path}")
    message = str(caught.value)
    assert f"missing in {tmp_path}: {TEST_Y}. Needed" in message
    assert all(name in message for name in (TRAIN_X, TRAIN_Y, TEST_X))
    assert f"holds: labels, {TEST_X}, {TRAIN_X}, {TRAIN_Y}" in message


def test_empty_folder_and_long_listing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="The folder holds: nothing"):
        load(f"mnist:{tmp_path}")
    for i in range(20):
        (tmp_path / f"note{i:02}").mkdir()
    with pytest.raises(DataError, match=r"note00.*note11.* and 8 more"):
        load(f"mnist:{tmp_path}")


IMAGES = idx(idx_arrays()[TRAIN_X])
LABELS = idx(idx_arrays()[TRAIN_Y])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TRAIN_X, b"", "the file is empty"),
        (TRAIN_X, b"\0\0", "not an IDX file: it starts with 00 00, where 00 00 08 03 is needed"),
        (TRAIN_X, b"<!DOCTYPE html>", "not an IDX file: it starts with 3c 21 44 4f"),
        (TRAIN_X, b"\0\0\x07\x03" + IMAGES[4:], "not an IDX file"),
        (TRAIN_X, IMAGES[:10], "cut short in its header: 10 bytes, where the header alone has 16"),
        (TRAIN_X, IMAGES[:1000], r"cut short: .*7 × 28 × 28 = 5,488 bytes, and there are 984"),
        (TRAIN_X, IMAGES + b"x", "too long: .* = 5,488 bytes, and there are more"),
        (TRAIN_X, LABELS, r"holds labels \(rank 1\), where images \(rank 3\) are needed"),
        (TRAIN_Y, IMAGES, r"holds images \(rank 3\), where labels \(rank 1\) are needed"),
        (TRAIN_X, idx(np.zeros((2, 2), np.uint8)), r"holds something else \(rank 2\)"),
        (TRAIN_X, idx(np.zeros((7, 2, 2), np.float32), 13), "32-bit floats"),
        (TRAIN_X, idx(np.zeros((0, 28, 28), np.uint8)), r"\(0, 28, 28\), so it holds nothing"),
        (TRAIN_X, b"\0\0\x08\x03" + b"\xff" * 12 + b"abc", "cut short: .*and there are 3"),
        (TRAIN_X, gzip.compress(IMAGES, mtime=0)[:-20], "broken gzip file"),
        (TRAIN_X, gzip.compress(IMAGES, mtime=0)[:40] + b"\xff" * 99, "broken gzip file"),
        (TRAIN_X, gzip.compress(IMAGES, mtime=0)[:-8] + b"\0" * 8, "broken gzip file.*CRC"),
        (TRAIN_X, gzip.compress(b"", mtime=0), "the file is empty"),
        (TRAIN_X, gzip.compress(IMAGES[:1000], mtime=0), "cut short: .*and there are 984"),
        (TRAIN_X, idx(np.zeros((6, 28, 28), np.uint8)), "7 labels for 6 images"),
        (TRAIN_X, idx(np.zeros((7, 32, 32), np.uint8)), r"\(1, 32, 32\) .* \(1, 28, 28\)"),
        (TRAIN_Y, idx(np.array([1, 2, 3, 10, 5, 6, 7], np.uint8)), "label 10 at position 3"),
    ],
)
def test_bad_idx_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write_idx(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load(f"mnist:{tmp_path}")
    if "28, 28) (C" not in str(caught.value):  # that one is about two files
        assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("spec", ["mnist", "cifar10"])
def test_file_that_may_not_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    write_idx(tmp_path)
    write_pickled(tmp_path)

    def refuse(path: Path, *_args: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); check"):
        load(f"{spec}:{tmp_path}")


# CIFAR-10

BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def cifar_arrays(name: str) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(BATCHES.index(name))
    return rng.integers(0, 256, (4, 3072), dtype=np.uint8), rng.integers(0, 10, 4).tolist()


def python_2_batch(images: np.ndarray, labels: list[int], title: bytes) -> bytes:
    """Opcode by opcode what cPickle of Python 2 wrote in protocol 2: text as byte strings."""
    raw = images.tobytes()

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"M" + struct.pack("<H", value) if value > 255 else b"K" + bytes([value])

    array_class = b"cnumpy.core.multiarray\n_reconstruct\nq\x08cnumpy\nndarray\nq\x09"
    empty = array_class + b"K\x00\x85" + text(b"b") + b"\x87R"
    dtype = b"cnumpy\ndtype\nq\x0b" + text(b"u1") + b"K\x00K\x01\x87R"
    minus_one = b"J\xff\xff\xff\xff"
    dtype += b"(K\x03" + text(b"|") + b"NNN" + 2 * minus_one + b"K\x00tb"
    shape = number(images.shape[0]) + number(images.shape[1]) + b"\x86"
    state = b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<i", len(raw)) + raw + b"tb"
    names = b"".join(text(b"cat_%d.png" % i) for i in range(len(labels)))
    return (
        b"\x80\x02}q\x01("
        + text(b"batch_label")
        + text(title)
        + text(b"labels")
        + b"](%se" % b"".join(number(label) for label in labels)
        + text(b"data")
        + empty
        + state
        + text(b"filenames")
        + b"](%se" % names
        + b"u."
    )


def write_pickled(
    folder: Path, dump: Callable[[np.ndarray, list[int]], bytes] | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in BATCHES:
        images, labels = cifar_arrays(name)
        made = dump(images, labels) if dump else python_2_batch(images, labels, b"part")
        (folder / name).write_bytes(made)


def write_binary(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in BATCHES:
        images, labels = cifar_arrays(name)
        records = [bytes([label]) + image.tobytes() for image, label in zip(images, labels)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))


def assert_is_cifar(spec: str) -> None:
    data = load(spec)
    parts = [cifar_arrays(name) for name in BATCHES]
    train = np.concatenate([images for images, _ in parts[:5]])
    assert data.x_train.shape == (20, 3, 32, 32)
    assert data.x_test.shape == (4, 3, 32, 32)
    np.testing.assert_allclose(data.x_train.reshape(20, -1), train / 255, rtol=1e-7)
    np.testing.assert_allclose(data.x_test.reshape(4, -1), parts[5][0] / 255, rtol=1e-7)
    assert data.x_train[6, 2, 5, 7] == np.float32(train[6, 2 * 1024 + 5 * 32 + 7]) / np.float32(255)
    assert data.y_train.tolist() == [label for _, labels in parts[:5] for label in labels]
    assert data.y_test.tolist() == parts[5][1]
    planes = data.x_train.astype(np.float64)
    np.testing.assert_allclose(data.mean.ravel(), planes.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.std.ravel(), planes.std(axis=(0, 2, 3)), rtol=1e-6)
    assert (data.classes[0], data.classes[9]) == ("airplane", "truck")


def test_hand_made_python_2_pickle_is_one() -> None:
    images, labels = cifar_arrays("test_batch")
    content = pickle.loads(python_2_batch(images, labels, b"part"), encoding="bytes")
    np.testing.assert_array_equal(content[b"data"], images)
    assert content[b"labels"] == labels


@pytest.mark.parametrize("place", [".", "cifar-10-batches-py"])
def test_cifar_of_python_2(tmp_path: Path, place: str) -> None:
    write_pickled(tmp_path / place)
    assert_is_cifar(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("place", [".", "cifar-10-batches-bin"])
def test_cifar_binary(tmp_path: Path, place: str) -> None:
    write_binary(tmp_path / place)
    assert_is_cifar(f"cifar10:{tmp_path}")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("key", [str, str.encode])
@pytest.mark.parametrize("order", ["C", "F"])
def test_cifar_of_this_numpy(
    tmp_path: Path, protocol: int, key: Callable[[str], object], order: str
) -> None:
    def dump(images: np.ndarray, labels: list[int]) -> bytes:
        arranged = np.asarray(images, order="F" if order == "F" else "C")
        content = {key("data"): arranged, key("labels"): np.array(labels, ">i4")}
        return pickle.dumps(content, protocol)

    write_pickled(tmp_path, dump)
    assert_is_cifar(f"cifar10:{tmp_path}")


class Call:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.made = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.made


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (builtins.exec, "(builtins|__builtin__).exec"),
        (os.system, f"{os.name if os.name == 'posix' else 'nt'}.system"),
        (np.load, "numpy.load"),
        (getattr, "(builtins|__builtin__).getattr"),
    ],
)
def test_pickle_cannot_run_anything(
    tmp_path: Path, function: Callable[..., object], name: str, protocol: int
) -> None:
    marker = tmp_path / "ran"
    argument = f"open({str(marker)!r}, 'w')" if function is builtins.exec else f"echo > {marker}"
    write_pickled(tmp_path)
    images, labels = cifar_arrays("data_batch_2")
    evil = {"data": images, "labels": labels, "extra": Call(function, argument)}
    (tmp_path / "data_batch_2").write_bytes(pickle.dumps(evil, protocol))
    with pytest.raises(DataError, match=rf"asks for {name}, .*nothing of it was run") as caught:
        load(f"cifar10:{tmp_path}")
    assert str(tmp_path / "data_batch_2") in str(caught.value)
    assert not marker.exists()


def test_the_malicious_pickle_would_have_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    pickle.loads(pickle.dumps(Call(builtins.exec, f"open({str(marker)!r}, 'w')")))
    assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"c_codecs\nencode\n(Vtext\nVrot13\ntR.",  # an allowed name with other arguments
        b"c_codecs\nencode\n(K\x01Vlatin1\ntR.",
        b"c_codecs\nencode\n}U\x08__call__K\x01sb.",  # changing what an allowed name is
        b"cnumpy.core.multiarray\n_reconstruct\n(N}U\x0c__defaults__)stb.",
        b"cnumpy\nndarray\n}U\x07contentK\x01sb.",
        b"cnumpy\ndtype\n(N}U\x04codeK\x01stb.",
        b"cnumpy\nndarray\n)\x81K\x01b.",  # a state that is none
        b"cnumpy\ndtype\n(U\x02u1tR)b.",
        b"cnumpy\ndtype\n.more"[:13],  # no end
        b"\x80\x02\x82\x01.",  # a registered extension
        b"\x80\x02K\x01Q.",  # a persistent id
        b"\x80\xff.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of impossible length
        b"](0e.",
        b"hello, this is a text",
        b"PK\x03\x04",
    ],
)
def test_malformed_pickles(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "data_batch_1"
    file.write_bytes(content)
    with pytest.raises(DataError, match="data_batch_1: not a whole pickle"):
        read_plain_pickle(file)
    assert PlainArray.content == ()  # nothing that is shared was changed


def array_of(shape: bytes, kind: bytes, data: bytes) -> bytes:
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(NNNtR"
    return (
        b"}(U\x06labels](K\x01eU\x04data"
        + empty
        + b"(K\x01"
        + shape
        + kind
        + b"\x89"
        + data
        + b"tbu."
    )


U1 = b"cnumpy\ndtype\n(U\x02u1tR"
OBJECT = b"cnumpy\ndtype\n(U\x02O8tR"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps([1, 2]), "not a batch of CIFAR-10: it holds a list"),
        (pickle.dumps({"data": 1, "fine_labels": []}), "its entries are data, fine_labels"),
        (pickle.dumps({}), "its entries are none"),
        (pickle.dumps({"data": "x", "labels": [1]}), "its 'data' is a str"),
        (pickle.dumps({"data": np.zeros((2, 3)), "labels": [1]}), "numbers of type <f8"),
        (pickle.dumps({"data": np.zeros((2, 3), np.int8), "labels": [1]}), "'data' is int8 of"),
        (pickle.dumps({"data": np.zeros((2, 9), np.uint8), "labels": [1]}), r"shape \(2, 9\)"),
        (
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}),
            "its 'labels' is a list with other things in it",
        ),
        (
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [2**80]}),
            "a number in its 'labels' is far too large",
        ),
        (
            pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": np.zeros((1, 1), int)}),
            r"its 'labels' are int64 of shape \(1, 1\)",
        ),
        (array_of(b"K\x01M\x00\x0c\x86", U1, b"U\x02ab"), r"2 bytes .*\(1, 3072\) needs 3,072"),
        (array_of(b"K\x01M\x00\x0c\x86", U1, b"K\x02"), r"no bytes of numbers"),
        (array_of(b"J\xff\xff\xff\xff\x85", U1, b"U\x02ab"), "no proper shape"),
        (array_of(b"K\x00\x8a\x09" + b"\x01" * 9 + b"\x86", U1, b"U\x00"), "no proper shape"),
        (array_of(b"N", U1, b"U\x02ab"), "no proper shape"),
        (array_of(b"K\x02\x85", OBJECT, b"U\x02ab"), r"numbers of type \|O8"),
        (array_of(b"K\x02\x85", b"N", b"U\x02ab"), "without a type of numbers"),
        (b"}(U\x06labels](K\x01eU\x04datacnumpy\nndarray\n)\x81u.", "has no content"),
    ],
)
def test_pickles_that_are_no_batch(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "data_batch_1"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_pickled_batch(file)
    assert str(caught.value).startswith(str(file))


def test_pickled_batch_cut_short_or_empty(tmp_path: Path) -> None:
    write_pickled(tmp_path)
    whole = (tmp_path / "data_batch_3").read_bytes()
    (tmp_path / "data_batch_3").write_bytes(whole[:5000])
    with pytest.raises(DataError, match=r"data_batch_3: not a whole pickle .* 5,000 bytes"):
        load(f"cifar10:{tmp_path}")
    (tmp_path / "data_batch_3").write_bytes(b"")
    with pytest.raises(DataError, match="data_batch_3: the file is empty"):
        load(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "data_batch_4.bin: the file is empty"),
        (3072, r"3,072 bytes are not a whole number of records of 3,073 bytes .*30,730,000"),
        (2 * 3073, "data_batch_4.bin: cut short: 2 images, where the fullest batch has 4"),
    ],
)
def test_binary_batch_cut_short(tmp_path: Path, size: int, message: str) -> None:
    write_binary(tmp_path)
    file = tmp_path / "data_batch_4.bin"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DataError, match=message):
        load(f"cifar10:{tmp_path}")


def test_cifar_label_out_of_range(tmp_path: Path) -> None:
    write_binary(tmp_path)
    file = tmp_path / "test_batch.bin"
    content = bytearray(file.read_bytes())
    content[2 * 3073] = 10
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"test_batch.bin: label 10 at position 2; .*0 to 9"):
        load(f"cifar10:{tmp_path}")


def test_cifar_labels_and_images_disagree(tmp_path: Path) -> None:
    write_pickled(tmp_path)
    images, labels = cifar_arrays("data_batch_1")
    (tmp_path / "data_batch_1").write_bytes(python_2_batch(images, labels[:3], b"part"))
    with pytest.raises(DataError, match="data_batch_1: 3 labels for 4 images"):
        load(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(("write", "suffix"), [(write_binary, ".bin"), (write_pickled, "")])
def test_which_cifar_file_is_missing(
    tmp_path: Path, write: Callable[[Path], None], suffix: str
) -> None:
    write(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / f"data_batch_5{suffix}").unlink()
    with pytest.raises(DataError) as caught:
        load(f"cifar10:{tmp_path}")
    folder = tmp_path / "cifar-10-batches-py"
    assert f"missing in {folder}: data_batch_5{suffix}. Needed" in str(caught.value)
    assert f"data_batch_1{suffix}, data_batch_2{suffix}" in str(caught.value)


def test_archive_that_was_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"First unpack the archive: tar -xf .*python.tar.gz"):
        load(f"cifar10:{tmp_path}")


def test_empty_batches(tmp_path: Path) -> None:
    write_pickled(tmp_path, lambda images, _: python_2_batch(images[:0], [], b"part"))
    with pytest.raises(DataError, match="there are no training images"):
        load(f"cifar10:{tmp_path}")
