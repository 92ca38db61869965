"""From a photographed or drawn digit to the small picture that a model was trained on.

gray (h, w) → ground → ink → without specks → cropped → thickened → (H, W), all in NumPy.

Two frames are imitated.  8×8: the UCI digits, a 32×32 bitmap whose 4×4 blocks are counted, the
ink as tall as the frame and at least a quarter of it (Garris et al. 1994, NISTIR 5469).  Any other
size: MNIST, the ink in a 20/28 box, its centre of mass in the middle (LeCun et al. 1998).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from convgrad.errors import DataError

_FAINTEST = 0.06  # contrast below which a picture counts as blank
_SHADE = 0.25  # how far the ground's brightness may drift along the border
_SPECK = 0.05  # pieces smaller than this part of the largest piece are dirt
_GRID = 128  # cells along the longer side when pieces are told apart
_RIM = 2  # cells around a piece that hold its soft edge
_DETAIL = 4  # strokes are thickened at this many times the frame's resolution
_SMALL = 64  # pictures with a shorter side than this are not smoothed


@dataclass(frozen=True)
class Frame:
    """Where a data set has its ink, in cells of which block × block make one pixel."""

    height: int
    width: int
    box: tuple[int, int]  # what the ink may fill, height and width
    squeeze: float  # how much narrower than it is wide the ink may be made to fill the height
    block: int
    least_ink: float  # part of the frame that is ink at least: thinner strokes are thickened
    by_mass: bool  # whether the centre of mass or the middle of the box is in the middle


def frame_for(height: int, width: int) -> Frame:
    """The UCI digits' frame for 8×8, and MNIST's in proportion for every other size."""
    if (height, width) == (8, 8):
        return Frame(32, 32, (32, 22), 1.5, 4, least_ink=0.28, by_mass=False)
    box = (max(1, round(height * 20 / 28)), max(1, round(width * 20 / 28)))
    return Frame(height, width, box, 1.0, 1, least_ink=0.09, by_mass=True)


def digit(gray: np.ndarray, size: tuple[int, int], what: str) -> np.ndarray:
    """One digit on a plain ground, bright on dark, in the frame of the training data.

    gray (h, w) in 0..1, 1 is white → (*size) float32 in 0..1.  A picture that has the size
    already is taken as it is, apart from its polarity.
    Raises DataError, which begins with `what`, if nothing stands out from the ground.
    """
    if gray.shape == size:
        return _bright_on_dark(gray, what)
    soft = _ink(gray, what)
    soft = soft * _without_specks(soft >= 0.5)
    return _framed(soft, frame_for(*size))


def resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """y[i, j] = the mean of image over output cell (i, j), whose edges cut pixels in parts.

    image (h, w) → (*size).
    """
    return _overlaps(image.shape[0], size[0]) @ image @ _overlaps(image.shape[1], size[1]).T


def _overlaps(n: int, cells: int) -> np.ndarray:
    """(cells, n): which part of a cell each pixel covers; rows sum to 1."""
    edges = np.linspace(0, n, cells + 1)
    pixel = np.arange(n)
    low = np.maximum(edges[:-1, None], pixel)
    high = np.minimum(edges[1:, None], pixel + 1)
    return np.maximum(high - low, 0) * (cells / n)


def _bright_on_dark(gray: np.ndarray, what: str) -> np.ndarray:
    if np.ptp(gray) < _FAINTEST:
        raise _blank(what)
    bright = 1 - gray if np.median(_border(gray)) > 0.5 else gray
    return bright.astype(np.float32)


def _ink(gray: np.ndarray, what: str) -> np.ndarray:
    """How surely each pixel is ink: 0 below a quarter of the ink's contrast, 1 above 3/4."""
    signal = gray - _ground(gray)
    darker, brighter = np.maximum(-signal, 0), np.maximum(signal, 0)
    signal = darker if np.sum(darker**2) > np.sum(brighter**2) else brighter
    if min(signal.shape) >= _SMALL:
        signal = _smoothed(signal)
    peak = signal.max()
    if peak < _FAINTEST:
        raise _blank(what)
    level = np.median(signal[signal > peak / 2])
    return np.clip(2 * signal / level - 0.5, 0, 1)


def _blank(what: str) -> DataError:
    return DataError(
        f"{what}: the picture is blank: nothing stands out from its ground; give one digit, "
        "dark on a light ground or light on a dark one"
    )


def _border(image: np.ndarray) -> np.ndarray:
    return np.concatenate([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])


def _ground(gray: np.ndarray) -> np.ndarray:
    """The plane through the border's brightness: paper that is lit from one side is a slope."""
    height, width = gray.shape
    rows, cols = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    border = _border(gray)
    middle = np.median(border)
    close = np.abs(border - middle) < _SHADE
    if min(height, width) < _SMALL or np.mean(close) < 0.5:
        return np.full_like(gray, middle)
    places = np.stack([np.ones(border.size), _border(rows), _border(cols)], axis=1)
    a, b, c = np.linalg.lstsq(places[close], border[close], rcond=None)[0]
    return a + b * rows + c * cols


def _smoothed(image: np.ndarray) -> np.ndarray:
    """The mean over 3×3 pixels, against grain."""
    padded = np.pad(image, 1, mode="edge")
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def _without_specks(on: np.ndarray) -> np.ndarray:
    """True at and around the pieces of ink that are not tiny beside the largest piece."""
    step = math.ceil(max(on.shape) / _GRID)
    padded = np.pad(on, [(0, -n % step) for n in on.shape])
    height, width = (n // step for n in padded.shape)
    count = padded.reshape(height, step, width, step).sum(axis=(1, 3))  # ink in each cell
    pieces = _pieces(count > 0)
    area = np.bincount(pieces.ravel(), weights=count.ravel())
    kept = (area >= _SPECK * area.max())[pieces] & (pieces > 0)
    kept = _dilated(kept, _RIM)[_RIM:-_RIM, _RIM:-_RIM]
    return kept.repeat(step, axis=0).repeat(step, axis=1)[: on.shape[0], : on.shape[1]]


def _pieces(on: np.ndarray) -> np.ndarray:
    """Number the connected pieces from 1; cells that meet at a corner are connected."""
    numbers = np.zeros((on.shape[0] + 2, on.shape[1] + 2), dtype=np.int64)
    free = set(zip(*(np.nonzero(on)[axis] + 1 for axis in (0, 1)), strict=True))
    piece = 0
    while free:
        piece += 1
        stack = [free.pop()]
        while stack:
            row, col = stack.pop()
            numbers[row, col] = piece
            near = {(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & free
            free -= near
            stack.extend(near)
    return numbers[1:-1, 1:-1]


def _framed(soft: np.ndarray, frame: Frame) -> np.ndarray:
    """Crop, thicken until there is ink enough, fit into the frame: (H, W) float32."""
    canvas = _thickened(_enlarged(_cropped(soft), frame), frame)
    height, width = frame.height // frame.block, frame.width // frame.block
    blocks = canvas.reshape(height, frame.block, width, frame.block)
    return blocks.mean(axis=(1, 3)).astype(np.float32)


def _enlarged(ink: np.ndarray, frame: Frame) -> np.ndarray:
    """The ink at a few times the frame's resolution, no stroke lost where that is fewer cells."""
    tall, wide = (n * _DETAIL for n in _fitting(ink.shape, frame))
    finer = max(ink.shape[0] / tall, ink.shape[1] / wide)
    if finer > 1:
        ink = _dilated(ink, math.ceil(finer / 2))
    return _cropped(resized(ink, (tall, wide)))


def _thickened(ink: np.ndarray, frame: Frame) -> np.ndarray:
    """The frame with the ink in it, in the thinnest strokes that give `least_ink`."""
    canvas = _placed(ink, frame)
    for radius in range(1, max(frame.box) * _DETAIL // 8):
        if canvas.mean() >= frame.least_ink:
            break
        canvas = _placed(_cropped(_dilated(ink, radius)), frame)
    return canvas


def _cropped(soft: np.ndarray) -> np.ndarray:
    on = soft >= 0.5
    rows, cols = np.flatnonzero(on.any(axis=1)), np.flatnonzero(on.any(axis=0))
    return soft[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


def _dilated(ink: np.ndarray, radius: int) -> np.ndarray:
    """The largest value within `radius` rows and columns; the result is larger by it all round."""
    padded = np.pad(ink, 2 * radius)
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=axis)
        padded = windows.max(axis=-1)
    return padded


def _fitting(shape: tuple[int, ...], frame: Frame) -> tuple[int, int]:
    """The size at which ink of this shape fills the box; only what is too wide is squeezed."""
    height, width = shape
    scale = min(frame.box[0] / height, frame.squeeze * frame.box[1] / width)
    return max(1, round(height * scale)), max(1, min(round(width * scale), frame.box[1]))


def _placed(ink: np.ndarray, frame: Frame) -> np.ndarray:
    """The ink on an empty frame: a bitmap where cells are counted later, soft where they aren't."""
    small = resized(ink, _fitting(ink.shape, frame))
    if frame.block > 1:
        small = (small >= 0.5).astype(np.float64)
    canvas = np.zeros((frame.height, frame.width))
    top = _offset(small.sum(axis=1), frame.height, frame.by_mass)
    left = _offset(small.sum(axis=0), frame.width, frame.by_mass)
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def _offset(profile: np.ndarray, size: int, by_mass: bool) -> int:
    """Where along one axis the ink begins; never outside the frame."""
    if not by_mass:
        return (size - len(profile)) // 2
    centre = np.arange(len(profile)) @ profile / profile.sum()
    return int(np.clip(round((size - 1) / 2 - centre), 0, size - len(profile)))
