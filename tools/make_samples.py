"""Make samples/, the pictures to try `convgrad predict` on, out of digits that people wrote.

    python tools/make_samples.py

Each picture is one image of the test split of the shipped digits, so no training with `--data
digits` has seen it: the first test image of each digit, and the second of the 4 and the 7.  The
8×8 counts of ink are enlarged and drawn as strokes, each in another way that pictures come in.
Needs Pillow (python -m pip install ".[app]").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from convgrad.nn.data import load

FOLDER = Path(__file__).resolve().parents[1] / "samples"
MARGIN = 2  # empty cells around the 8×8, so that the strokes' ends are round
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Sample:
    """One picture: which digit, and how it is drawn."""

    file: str
    digit: int
    which: int  # among the test images of this digit
    ink: Colour
    paper: Colour
    size: tuple[int, int]  # of the picture, width and height
    tall: int  # height of the digit
    corner: tuple[int, int]  # where the digit begins, from the left and the top
    grain: float = 0.0  # standard deviation of the noise, of 255
    slope: float = 0.0  # how much the light falls from left to right, of 255
    finish: str = ""


BLACK, WHITE, PENCIL, BLUE = (15, 15, 20), (255, 255, 255), (95, 95, 100), (25, 50, 150)
CREAM, CHALK, BOARD, RED = (245, 238, 220), (235, 235, 225), (30, 70, 55), (190, 30, 35)

SAMPLES = (
    Sample("0-ink.png", 0, 0, BLACK, WHITE, (200, 200), 140, (30, 30)),
    Sample("1-photo.jpg", 1, 0, BLUE, CREAM, (480, 360), 170, (250, 120), 4, 40),
    Sample("2-chalk.jpg", 2, 0, CHALK, BOARD, (320, 320), 200, (90, 60), 6),
    Sample("3-pencil.png", 3, 0, PENCIL, CREAM, (120, 180), 90, (15, 60), 4, finish="gray"),
    Sample("4-transparent.png", 4, 0, BLUE, WHITE, (240, 240), 150, (70, 20), finish="alpha"),
    Sample("4-small.png", 4, 1, BLACK, WHITE, (40, 48), 30, (4, 10), finish="gray"),
    Sample("5-palette.png", 5, 0, RED, WHITE, (220, 180), 130, (20, 40), finish="palette"),
    Sample("6-white-on-black.png", 6, 0, WHITE, BLACK, (256, 256), 128, (100, 90), finish="gray"),
    Sample("7-sixteen-bits.png", 7, 0, PENCIL, WHITE, (120, 100), 70, (40, 15), 2, finish="16"),
    Sample("7-print.jpg", 7, 1, BLACK, WHITE, (300, 240), 180, (60, 25), finish="cmyk"),
    Sample("8-turned.jpg", 8, 0, BLUE, CREAM, (300, 400), 220, (50, 90), 4, 30, "exif"),
    Sample("9-shadow.jpg", 9, 0, PENCIL, WHITE, (400, 300), 200, (110, 60), 3, 70),
)


def main() -> None:
    data = load("digits")
    FOLDER.mkdir(exist_ok=True)
    for number, sample in enumerate(SAMPLES):
        place = np.flatnonzero(data.y_test == sample.digit)[sample.which]
        cover = strokes(data.x_test[place, 0], sample)
        save(painted(cover, sample, np.random.default_rng(number)), cover, sample)
        path = FOLDER / sample.file
        print(f"{sample.file:22} test image {place:3}  {path.stat().st_size:6,} bytes")


def strokes(counts: np.ndarray, sample: Sample) -> np.ndarray:
    """counts (8, 8) in 0..1 → where ink is, (h, w) in 0..1, with soft edges."""
    cells = np.pad(counts, MARGIN)
    field = cells
    for _ in range(60):  # until the strokes' own counts are those that were measured
        excess = cells - blocks(edges(enlarged(field, 8)))
        field = field + excess / 3
    side = round(len(cells) * sample.tall / 8)
    ink = edges(enlarged(field, side / len(cells)))
    shift = round(MARGIN * sample.tall / 8)
    left, top = (corner - shift for corner in sample.corner)
    width, height = sample.size
    page = Image.new("F", (width, height))
    page.paste(Image.fromarray(ink.astype(np.float32)), (left, top))
    return np.asarray(page)


def enlarged(field: np.ndarray, times: float) -> np.ndarray:
    side = round(len(field) * times)
    image = Image.fromarray(field.astype(np.float32))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def edges(field: np.ndarray) -> np.ndarray:
    """Ink where the field is above a half."""
    return 1 / (1 + np.exp(-20 * (field - 0.5)))


def blocks(ink: np.ndarray) -> np.ndarray:
    """The mean over 8×8 blocks."""
    cells = len(ink) // 8
    return ink.reshape(cells, 8, cells, 8).mean(axis=(1, 3))


def painted(cover: np.ndarray, sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """(h, w, 3) in 0..255: paper, ink on it, the light's slope and grain."""
    mix = cover[:, :, None]
    picture = np.array(sample.paper) * (1 - mix) + np.array(sample.ink) * mix
    picture = picture - np.linspace(0, sample.slope, cover.shape[1])[None, :, None]
    return np.clip(picture + rng.normal(0, sample.grain, cover.shape)[:, :, None], 0, 255)


def save(picture: np.ndarray, cover: np.ndarray, sample: Sample) -> None:
    path = FOLDER / sample.file
    image = Image.fromarray(np.rint(picture).astype(np.uint8))
    match sample.finish:
        case "gray":
            image.convert("L").save(path, optimize=True)
        case "alpha":
            image.putalpha(Image.fromarray(np.rint(cover * 255).astype(np.uint8)))
            image.save(path, optimize=True)
        case "palette":
            image.quantize(16).save(path, optimize=True)
        case "16":
            Image.fromarray(np.rint(picture.mean(axis=2) * 257).astype(np.uint16)).save(path)
        case "cmyk":
            image.convert("CMYK").save(path, quality=85)
        case "exif":
            exif = Image.Exif()
            exif[0x0112] = 6  # the camera was held upright: turn clockwise to see the digit
            image.transpose(Image.Transpose.ROTATE_90).save(path, quality=85, exif=exif)
        case _:
            image.save(path, quality=85, optimize=True)


if __name__ == "__main__":
    main()
