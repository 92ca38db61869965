"""Pictures of one's own: every kind of file, and digits that come out as the data set has them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from convgrad.errors import DataError, MissingExtraError, ShapeError
from convgrad.nn.data import ink, load, picture
from convgrad.nn.data.picture import image_files, prepare, show

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
DIGITS = (1, 8, 8)
MNIST = (1, 28, 28)


@pytest.fixture(scope="module")
def nearest() -> Callable[[np.ndarray], int]:
    """A judge that knows nothing of convgrad: the three training images that are nearest."""
    data = load("digits")
    known = data.x_train.reshape(len(data.x_train), -1)

    def judge(seen: np.ndarray) -> int:
        distance = np.sum((known - seen.reshape(-1)) ** 2, axis=1)
        votes = data.y_train[np.argsort(distance, kind="stable")[:3]]
        return int(np.bincount(votes).argmax())

    return judge


def stroke_seven(
    size: tuple[int, int] = (200, 150),
    corner: tuple[int, int] = (60, 20),
    tall: int = 100,
    width: int = 12,
) -> Image.Image:
    """A 7 in black on white, mode L."""
    image = Image.new("L", size, 255)
    x, y = corner
    points = [(x, y), (x + 0.6 * tall, y), (x + 0.25 * tall, y + tall)]
    ImageDraw.Draw(image).line(points, fill=0, width=width, joint="curve")
    return image


def saved(tmp_path: Path, image: Image.Image, name: str = "a.png", **how: object) -> Path:
    path = tmp_path / name
    image.save(path, **how)  # pyright: ignore[reportArgumentType]
    return path


# The samples


def test_samples_are_read_as_the_digits_that_they_are(
    nearest: Callable[[np.ndarray], int],
) -> None:
    files = image_files(SAMPLES)
    assert len(files) == 12
    right = sum(nearest(prepare(file, DIGITS)) == int(file.name[0]) for file in files)
    assert right >= 11


@pytest.mark.parametrize("file", sorted(SAMPLES.glob("*.*g")), ids=lambda file: file.name)
def test_sample_comes_out_near_the_image_it_was_made_of(file: Path) -> None:
    data = load("digits")
    same = data.x_test[data.y_test == int(file.name[0])][:2]
    others = data.x_test[data.y_test != int(file.name[0])]
    seen = prepare(file, DIGITS)
    assert seen.shape == DIGITS
    assert seen.dtype == np.float32
    error = np.abs(same - seen).mean(axis=(1, 2, 3)).min()
    assert error < 0.14  # two images of different digits are about 0.3 apart
    assert error < np.quantile(np.abs(others - seen).mean(axis=(1, 2, 3)), 0.01)
    np.testing.assert_array_equal(seen * 16, np.rint(seen * 16))  # counts of 4×4 blocks


# Strokes that a person draws


def arc(x: float, y: float, wide: float, tall: float, start: float, end: float) -> list:
    turn = np.radians(np.linspace(start, end, 40))
    return list(zip(x + wide * np.cos(turn), y + tall * np.sin(turn)))


DRAWN = {  # lines in a unit square
    0: [arc(0.5, 0.5, 0.28, 0.45, 0, 360)],
    1: [[(0.3, 0.25), (0.52, 0.05), (0.52, 0.95)]],
    2: [[*arc(0.48, 0.3, 0.25, 0.25, -180, 40), (0.2, 0.95), (0.8, 0.95)]],
    3: [arc(0.45, 0.28, 0.25, 0.23, -150, 90) + arc(0.45, 0.73, 0.28, 0.23, -90, 150)],
    4: [[(0.5, 0.05), (0.2, 0.6), (0.8, 0.6)], [(0.62, 0.35), (0.62, 0.95)]],
    5: [[(0.75, 0.05), (0.3, 0.05), (0.27, 0.45), *arc(0.45, 0.67, 0.28, 0.27, -120, 150)]],
    6: [[(0.65, 0.05), (0.35, 0.4), *arc(0.47, 0.7, 0.23, 0.25, 180, 540)]],
    7: [[(0.2, 0.07), (0.78, 0.07), (0.4, 0.95)], [(0.35, 0.5), (0.7, 0.5)]],
    8: [arc(0.5, 0.28, 0.2, 0.22, 0, 360), arc(0.5, 0.73, 0.25, 0.23, 0, 360)],
    9: [[*arc(0.47, 0.3, 0.23, 0.25, 0, 360), (0.7, 0.3), (0.6, 0.95)]],
}


@pytest.mark.parametrize(
    ("side", "tall", "pen"),
    [(400, 300, 1), (400, 300, 25), (500, 60, 2), (100, 60, 1), (40, 30, 2), (900, 700, 3)],
)
def test_any_pen_on_any_page(
    tmp_path: Path, nearest: Callable[[np.ndarray], int], side: int, tall: int, pen: int
) -> None:
    right = 0
    for number, lines in DRAWN.items():
        page = Image.new("L", (side, side), 240)
        for line in lines:
            points = [(0.12 * side + 0.8 * tall * x, 0.1 * side + tall * y) for x, y in line]
            ImageDraw.Draw(page).line(points, fill=30, width=pen, joint="curve")
        right += nearest(prepare(saved(tmp_path, page), DIGITS)) == number
    assert right >= 9


# Where the ink comes to lie


def test_uci_frame_is_filled_from_top_to_bottom(tmp_path: Path) -> None:
    seen = prepare(saved(tmp_path, stroke_seven()), DIGITS)[0]
    assert seen[0].max() >= 0.5
    assert seen[7].max() >= 0.5
    assert seen[:, 0].max() < 0.25
    assert seen.mean() >= 0.28


def test_tall_bar_by_hand(tmp_path: Path) -> None:
    """A bar 24×96 fills 8×32 cells of the 32×32: two columns of eight, and a quarter of it."""
    page = Image.new("L", (200, 200), 255)
    page.paste(0, (30, 50, 54, 146))
    seen = prepare(saved(tmp_path, page), DIGITS)[0]
    assert (seen[:, 3:5] == 1).all()
    assert seen[:, [0, 1, 6, 7]].max() == 0
    assert 0.28 <= seen.mean() <= 0.4  # thickened a little, from 0.25


def test_mnist_frame_has_the_mass_in_the_middle(tmp_path: Path) -> None:
    seen = prepare(saved(tmp_path, stroke_seven()), MNIST)[0]
    assert seen.shape == (28, 28)
    place = np.arange(28)
    total = seen.sum()
    rows, cols = (place @ seen.sum(axis=1)) / total, (seen.sum(axis=0) @ place) / total
    assert rows == pytest.approx(13.5, abs=0.51)
    assert cols == pytest.approx(13.5, abs=0.51)
    tall, wide = (np.flatnonzero(seen.max(axis=axis) > 0) for axis in (1, 0))
    assert tall[-1] - tall[0] + 1 == 20
    assert 10 <= wide[-1] - wide[0] + 1 <= 16  # the aspect ratio is kept: about 0.7


def test_other_gray_sizes_keep_mnists_margin(tmp_path: Path) -> None:
    seen = prepare(saved(tmp_path, stroke_seven()), (1, 56, 56))[0]
    tall = np.flatnonzero(seen.max(axis=1) > 0)
    assert tall[-1] - tall[0] + 1 == 40


def test_thin_and_thick_strokes_have_ink_enough(tmp_path: Path) -> None:
    for width in (1, 2, 6, 20):
        path = saved(tmp_path, stroke_seven(width=width))
        assert prepare(path, DIGITS).mean() >= 0.28
        assert prepare(path, MNIST).mean() >= 0.09


@pytest.mark.parametrize("shape", [DIGITS, MNIST])
def test_place_size_and_polarity_do_not_matter(tmp_path: Path, shape: tuple[int, ...]) -> None:
    plain = prepare(saved(tmp_path, stroke_seven()), shape)
    moved = stroke_seven(size=(300, 300), corner=(180, 170))
    negative = Image.eval(stroke_seven(), lambda value: 255 - value)
    for other in (moved, negative):
        np.testing.assert_allclose(prepare(saved(tmp_path, other), shape), plain, atol=1e-6)
    large = stroke_seven(size=(400, 300), corner=(120, 40), tall=200, width=24)
    assert np.abs(prepare(saved(tmp_path, large), shape) - plain).mean() < 0.03


def test_specks_grain_and_slanting_light(tmp_path: Path) -> None:
    plain = prepare(saved(tmp_path, stroke_seven()), DIGITS)
    rng = np.random.default_rng(0)
    values = np.asarray(stroke_seven(), dtype=np.float64) * 0.8 + 20
    values[140:144, 5:9] = 20  # a crumb, far from the digit
    values -= np.linspace(0, 60, 200)  # light from the left
    values += rng.normal(0, 5, values.shape)
    rough = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    assert np.abs(prepare(saved(tmp_path, rough), DIGITS) - plain).mean() < 0.03


def test_a_detached_stroke_is_no_speck(tmp_path: Path) -> None:
    page = stroke_seven()
    page.paste(0, (150, 60, 170, 70))
    with_dash = prepare(saved(tmp_path, page), MNIST)
    assert np.abs(with_dash - prepare(saved(tmp_path, stroke_seven()), MNIST)).mean() > 0.03


@pytest.mark.parametrize("on_white", [False, True])
@pytest.mark.parametrize("shape", [DIGITS, MNIST])
def test_picture_of_the_models_own_size_is_taken_as_it_is(
    tmp_path: Path, on_white: bool, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(1)
    values = np.zeros(shape[1:], np.uint8)
    values[2:-2, 2:-2] = rng.integers(0, 256, (shape[1] - 4, shape[2] - 4))
    path = saved(tmp_path, Image.fromarray(255 - values if on_white else values))
    np.testing.assert_allclose(prepare(path, shape)[0], values / 255, atol=1e-6)


def test_area_means_by_hand() -> None:
    image = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    expected = [[4 / 3, 8 / 3], [13 / 3, 17 / 3]]  # cells of one and a half pixels
    np.testing.assert_allclose(ink.resized(image, (2, 2)), expected)
    np.testing.assert_allclose(ink.resized(image, (1, 1)), [[3.5]])
    np.testing.assert_allclose(ink.resized(image, (4, 3)), image.repeat(2, axis=0))


# Kinds of files


def as_palette(image: Image.Image) -> Image.Image:
    return image.convert("RGB").quantize(8)


def as_transparent(image: Image.Image) -> Image.Image:
    """Black everywhere; what is not ink is transparent."""
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    black.putalpha(Image.eval(image, lambda value: 255 - value))
    return black


def as_16_bits(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint16) * 257)


def as_transparent_palette(image: Image.Image) -> Image.Image:
    paletted = Image.new("P", image.size, 1)
    paletted.putpalette([0, 0, 0, 10, 10, 10])  # ink 0, and a ground that is as dark
    paletted.paste(0, mask=Image.eval(image, lambda value: 255 * (value < 128)))
    paletted.info["transparency"] = 1
    return paletted


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda image: image.convert("RGB"), "a.png"),
        (lambda image: image.convert("RGB"), "a.jpg"),
        (lambda image: image.convert("CMYK"), "a.jpeg"),
        (lambda image: image.convert("LA"), "a.png"),
        (lambda image: image.convert("1"), "a.png"),
        (as_palette, "a.png"),
        (as_transparent, "a.png"),
        (as_transparent_palette, "a.png"),
        (as_16_bits, "A.PNG"),
        (lambda image: image, "我的 数字.png"),
    ],
)
@pytest.mark.parametrize("shape", [DIGITS, MNIST])
def test_every_mode(
    tmp_path: Path,
    change: Callable[[Image.Image], Image.Image],
    name: str,
    shape: tuple[int, ...],
) -> None:
    plain = prepare(saved(tmp_path, stroke_seven(), "plain.png"), shape)
    changed = prepare(saved(tmp_path, change(stroke_seven()), name), shape)
    assert np.abs(changed - plain).mean() < 0.02


def test_16_bits_keep_what_8_bits_would_lose(tmp_path: Path) -> None:
    faint = np.asarray(stroke_seven()).astype(np.uint16) * 20 + 30_000  # 30,000 to 35,100
    plain = prepare(saved(tmp_path, stroke_seven(), "plain.png"), DIGITS)
    seen = prepare(saved(tmp_path, Image.fromarray(faint)), DIGITS)
    assert np.abs(seen - plain).mean() < 0.02


@pytest.mark.parametrize(
    ("tag", "turn"),
    [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_orientation(tmp_path: Path, tag: int, turn: Image.Transpose) -> None:
    exif = Image.Exif()
    exif[0x0112] = tag
    path = saved(tmp_path, stroke_seven().transpose(turn), "a.jpg", exif=exif, quality=95)
    plain = prepare(saved(tmp_path, stroke_seven()), DIGITS)
    assert np.abs(prepare(path, DIGITS) - plain).mean() < 0.02


def test_colour_model_gets_the_whole_picture(tmp_path: Path) -> None:
    values = np.zeros((64, 128, 3), np.uint8)
    values[:32, :64], values[32:, 64:] = (255, 0, 0), (0, 0, 255)
    seen = prepare(saved(tmp_path, Image.fromarray(values)), (3, 32, 32))
    assert seen.shape == (3, 32, 32)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen[:, 4, 4], [1, 0, 0], atol=0.01)
    np.testing.assert_allclose(seen[:, 28, 28], [0, 0, 1], atol=0.01)
    np.testing.assert_allclose(seen[:, 28, 4], [0, 0, 0], atol=0.01)


def test_colour_model_sees_white_where_it_is_transparent(tmp_path: Path) -> None:
    seen = prepare(saved(tmp_path, Image.new("RGBA", (50, 40), (0, 0, 0, 0))), (3, 32, 32))
    np.testing.assert_array_equal(seen, np.ones((3, 32, 32), np.float32))


def test_large_picture_is_reduced(tmp_path: Path) -> None:
    large = stroke_seven(size=(2000, 1500), corner=(600, 200), tall=1000, width=120)
    plain = prepare(saved(tmp_path, stroke_seven()), DIGITS)
    assert np.abs(prepare(saved(tmp_path, large), DIGITS) - plain).mean() < 0.03
    assert np.abs(prepare(saved(tmp_path, as_16_bits(large)), DIGITS) - plain).mean() < 0.03


# What cannot be used


@pytest.mark.parametrize("shape", [DIGITS, MNIST])
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (1, 1), (3, 200), (300, 300)])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_blank(tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int], value: int) -> None:
    path = saved(tmp_path, Image.new("L", size, value))
    with pytest.raises(DataError, match=r"a\.png: the picture is blank") as caught:
        prepare(path, shape)
    assert str(caught.value).startswith(str(path))


def test_grain_alone_is_blank(tmp_path: Path) -> None:
    noise = np.random.default_rng(2).normal(200, 4, (300, 300))
    path = saved(tmp_path, Image.fromarray(noise.astype(np.uint8)))
    with pytest.raises(DataError, match="blank"):
        prepare(path, DIGITS)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG whose header says another size than the data has."""
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize("side", [8001, 10_000, 60_000])  # ours; Pillow's warning; its error
def test_decompression_bomb(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_that_claims(side, side))
    with pytest.raises(DataError, match=r"bomb.png: the picture is too large, 64,000,000 pixels"):
        prepare(path, DIGITS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; save the picture as PNG or JPEG"),
        (b"hello", "is neither PNG nor JPEG, or damaged"),
        (b"GIF89a" + bytes(50), "is neither PNG nor JPEG"),
    ],
)
def test_no_picture(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare(path, DIGITS)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_picture_cut_short_anywhere(tmp_path: Path, name: str) -> None:
    whole = saved(tmp_path, stroke_seven(), name).read_bytes()
    for length in range(1, len(whole) - 20, max(1, len(whole) // 40)):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(DataError, match=name):
            prepare(tmp_path / name, DIGITS)


def test_damaged_pictures_never_raise_anything_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for name in ("a.png", "a.jpg"):
        whole = saved(tmp_path, stroke_seven(), name).read_bytes()
        for _ in range(60):
            content = bytearray(whole)
            for place in rng.integers(0, min(len(content), 400), 3):
                content[place] = rng.integers(256)
            (tmp_path / name).write_bytes(content)
            try:
                seen = prepare(tmp_path / name, DIGITS)
            except DataError:
                continue
            assert np.isfinite(seen).all()


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path / "none.png", DIGITS)
    with pytest.raises(DataError, match="cannot be read"):
        prepare(tmp_path, DIGITS)


@pytest.mark.parametrize("shape", [(8, 8), (2, 8, 8), (64,), (1, 2, 8, 8)])
def test_models_that_take_no_pictures(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"a picture gives \(1, H, W\) or \(3, H, W\)"):
        prepare("a.png", shape)


def test_without_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, stroke_seven())
    monkeypatch.setattr("convgrad.extras.find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r'pillow.*python -m pip install "\.\[app\]"'):
        prepare(path, DIGITS)


# Finding and showing


def test_image_files(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "c.jpeg", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [file.name for file in image_files(tmp_path)] == ["a.png", "b.JPG", "c.jpeg"]
    assert image_files(str(tmp_path / "notes.txt")) == [tmp_path / "notes.txt"]


def test_no_image_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"")
    with pytest.raises(DataError, match=r"no picture in this folder .*it holds: notes.txt"):
        image_files(tmp_path)
    with pytest.raises(DataError, match="there is no such file or folder"):
        image_files(tmp_path / "none")


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "  ░░▒▒\n▓▓████"),
        ("gbk", "  ..::\n**####"),
        ("ascii", "  ..::\n**####"),
        ("no-such-encoding", "  ..::\n**####"),
    ],
)
def test_show(encoding: str, text: str) -> None:
    seen = np.array([[[0.0, 0.25, 0.5], [0.75, 1.0, 1.0]]], np.float32)
    assert show(seen, encoding) == text


def test_show_asks_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="gbk")
    monkeypatch.setattr(picture.sys, "stdout", stream)
    assert show(np.ones((1, 1, 1), np.float32)) == "##"
    assert show(np.array([[[1.0]], [[0.5]], [[0.0]]], np.float32)) == "::"  # the mean of colours
