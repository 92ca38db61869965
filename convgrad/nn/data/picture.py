"""Pictures of one's own: find them, read them, prepare them for a model, show them as text."""

from __future__ import annotations

import struct
import sys
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from convgrad.errors import DataError, ShapeError
from convgrad.extras import require
from convgrad.nn.data.files import listing
from convgrad.nn.data.ink import digit

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

_SUFFIXES = (".png", ".jpg", ".jpeg")
_MOST_PIXELS = 64_000_000
_ENOUGH = 512  # longer sides are reduced to about this before the ink is looked for
_BLOCKS = " ░▒▓█"
_ASCII = " .:*#"
# What Pillow raises on damaged files, beside OSError.
_DAMAGED = (SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)


def image_files(path: str | Path) -> list[Path]:
    """The picture itself, or the PNG and JPEG files in a folder, by name.

    Raises DataError if there is no such path, or the folder has no picture.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{path}: there is no such file or folder; give a picture or a folder")
    found = sorted(
        file
        for file in path.iterdir()
        if file.suffix.lower() in _SUFFIXES and file.is_file() and not file.name.startswith(".")
    )
    if not found:
        raise DataError(
            f"{path}: no picture in this folder ({', '.join(_SUFFIXES)}); it holds: {listing(path)}"
        )
    return found


def prepare(path: str | Path, input_shape: tuple[int, ...]) -> np.ndarray:
    """The picture as the model saw its training data: (C, H, W) float32 in 0..1.

    C = 1: one digit is cut out, made bright on dark, and centred as the data set has it.
    C = 3: the whole picture, resized to W × H.
    Any PNG or JPEG: gray, 16 bits, colour, palette, transparent (on white), CMYK, turned by EXIF.
    Raises DataError if the file is no such picture, blank or too large, ShapeError if the model
    does not take pictures, MissingExtraError without Pillow.
    """
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise ShapeError(
            f"the model's input is {tuple(input_shape)}; a picture gives (1, H, W) or (3, H, W)"
        )
    channels, height, width = input_shape
    path = Path(path)
    image = _opened(path)
    if channels == 1:
        return digit(_gray(image), (height, width), str(path))[None]
    colour = _on_white(image).convert("RGB").resize((width, height), reducing_gap=3.0)
    return (np.asarray(colour, dtype=np.float32) / 255).transpose(2, 0, 1)


def show(picture: np.ndarray, encoding: str | None = None) -> str:
    """The picture as text, two characters for a pixel, brighter is fuller.

    picture (C, H, W) in 0..1.  encoding: what the text will be written in, that of standard
    output if None; where it lacks the block characters, plain ASCII is used.
    """
    target = encoding or sys.stdout.encoding or "ascii"
    shades = _BLOCKS if _can_encode(_BLOCKS, target) else _ASCII
    levels = np.clip(np.rint(picture.mean(axis=0) * (len(shades) - 1)), 0, len(shades) - 1)
    return "\n".join("".join(2 * shades[int(level)] for level in row) for row in levels)


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _opened(path: Path) -> PilImage:
    """The decoded picture, upright."""
    require("PIL", extra="app", purpose="reading pictures")
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG", "JPEG")) as image:
                _check_size(path, image.width * image.height)
                return ImageOps.exif_transpose(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"{path}: {_too_large()} ({error})") from error
    except UnidentifiedImageError as error:
        found = "is empty" if path.stat().st_size == 0 else "is neither PNG nor JPEG, or damaged"
        raise DataError(f"{path}: the file {found}; save the picture as PNG or JPEG") from error
    except DataError:
        raise
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); check the path, and whether the "
            "picture opens elsewhere"
        ) from error
    except _DAMAGED as error:
        raise DataError(f"{path}: the picture is damaged ({error}); save it again") from error


def _check_size(path: Path, pixels: int) -> None:
    if pixels > _MOST_PIXELS:
        raise DataError(f"{path}: {_too_large()} ({pixels:,} pixels)")


def _too_large() -> str:
    return (
        f"the picture is too large, {_MOST_PIXELS:,} pixels are the most; scale it down, "
        "a few hundred pixels a side are plenty"
    )


def _on_white(image: PilImage) -> PilImage:
    """What is transparent shows white paper."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _gray(image: PilImage) -> np.ndarray:
    """(h, w) float64 in 0..1, 1 is white; a large picture is reduced on the way."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow cannot reduce as they are
        values = np.asarray(image).astype(np.float32) * (255 / 65535)
        image = Image.fromarray(values)
    else:
        image = _on_white(image).convert("RGB").convert("L")
    factor = max(image.size) // _ENOUGH
    if factor > 1:
        image = image.reduce(factor)
    return np.clip(np.asarray(image, dtype=np.float64) / 255, 0, 1)
