"""Jobs of the spectral kernels: tiles to spectra, their products, and back to results."""

from dataclasses import dataclass
from math import prod

from convgrad.cpu.jit import compiler
from convgrad.cpu.job import Generator, Job
from convgrad.cpu.overlap_save.kernels.products import PRODUCTS
from convgrad.cpu.overlap_save.kernels.tiles import FILTER_TILES, TILE_RESULTS, TILE_SPECTRA, Rank
from convgrad.cpu.overlap_save.tables import line_factors, passes
from convgrad.cpu.overlap_save.tiling import Size, Tiling
from convgrad.cpu.tiling import Tile

PARTS = 64  # of a product of spectra
DOUBLE = 8  # bytes


@dataclass(frozen=True)
class Layout:
    """Where spectra of channels and pairs of tiles lie, with strides counted in cells.

    A cell is as many complex numbers as a register has lanes.
    """

    points: int
    channels: int
    pairs: int
    channel: int
    pair: int
    cell: int

    @property
    def numbers(self) -> int:
        """Doubles that they take."""
        return 2 * self.points * self.channels * self.pairs

    def words(self) -> dict[str, int]:
        cell = 2 * _lanes()
        return {"sc": self.channel * cell, "sp": self.pair * cell, "sf": self.cell * cell}


def by_pairs(points: int, channels: int, pairs: int) -> Layout:
    """[cell][channel][pair]"""
    return Layout(points, channels, pairs, pairs, 1, channels * pairs)


def by_channels(points: int, channels: int, pairs: int) -> Layout:
    """[cell][pair][channel]; for w, (O, C), the output channels take the place of pairs."""
    return Layout(points, channels, pairs, 1, channels, channels * pairs)


def each_by_pairs(points: int, channels: int, pairs: int) -> Layout:
    """[channel][cell][pair], which is `by_pairs` of one channel with all their points."""
    return Layout(points, channels, pairs, points // _lanes() * pairs, 1, pairs)


def one_each(points: int, channels: int) -> Layout:
    """[channel][cell]"""
    return Layout(points, channels, 1, points // _lanes(), 0, 1)


@dataclass(frozen=True)
class View:
    """What a job has to know of an array: its shape, and its strides in doubles."""

    shape: Size
    strides: Size

    @classmethod
    def of(cls, shape: Size, strides: Size) -> "View":
        """Of doubles whose strides are given in bytes."""
        return cls(shape, tuple(s // DOUBLE for s in strides))

    def samples(self, count: int) -> "View":
        return View((count, *self.shape[1:]), self.strides)

    @property
    def rank(self) -> int:
        return len(self.shape) - 2

    @property
    def image(self) -> Size:
        """Rows and columns; a line has one row."""
        return (1,) * (2 - self.rank) + self.shape[2:]

    @property
    def steps(self) -> Size:
        """Strides of sample, channel, row and column."""
        n, c, *spatial = self.strides
        return (n, c, *(0,) * (2 - self.rank), *spatial)


def to_spectra(
    cut: Tiling, source: View, lo: Size, read: Size, layout: Layout, first: int = 0
) -> Job:
    """Of pairs of tiles from `first` on (counted through all samples), every channel of source.

    `read` cells of a tile are read, the others are zero; `lo` zeros come before the source.
    """
    parts = layout.channels * layout.pairs
    shares = 2 if parts == 1 else 1
    return _job(
        TILE_SPECTRA, cut, source.rank, parts * shares,
        **_source(source, lo, read), **layout.words(), count=layout.pairs, shares=shares,
        first=first,
    )  # fmt: skip


def from_spectra(cut: Tiling, layout: Layout, out: View, first: int = 0) -> Job:
    """The results of pairs of tiles from `first` on, every channel of out; times cut.points."""
    return _job(
        TILE_RESULTS, cut, out.rank, layout.channels * layout.pairs,
        **_result(out), **layout.words(), count=layout.pairs, first=first,
    )  # fmt: skip


def filter_tiles(cut: Tiling, source: View, lo: Size, out: View) -> Job:
    """Every channel of source correlated with its own kernel; times cut.points."""
    batch, channels = out.shape[:2]
    return _job(
        FILTER_TILES, cut, out.rank, batch * channels * cut.pairs,
        **_source(source, lo, cut.tile), **_result(out), **one_each(cut.points, channels).words(),
        count=channels,
    )  # fmt: skip


def sum_channels(x: Layout, w: Layout, y: Layout) -> Job:
    """y[o, p] = Σ_c x[c, p]·w[o, c]* at each frequency."""
    return _products(
        (x.pair, x.channel, x.cell), (w.pair, w.channel, w.cell), (y.pair, y.channel, y.cell),
        (x.pairs, y.channels, x.channels), x.points, accumulate=False,
    )  # fmt: skip


def sum_pairs(x: Layout, dy: Layout, dw: Layout, accumulate: bool) -> Job:
    """dw[o, c] (+)= Σ_p x[c, p]·dy[o, p]* at each frequency."""
    return _products(
        (x.channel, x.pair, x.cell), (dy.channel, dy.pair, dy.cell),
        (dw.channel, dw.pair, dw.cell), (x.channels, dy.channels, x.pairs), x.points, accumulate,
    )  # fmt: skip


def _products(u: Size, v: Size, to: Size, sizes: Size, points: int, accumulate: bool) -> Job:
    """For strides (row, summed, cell), (column, summed, cell), (row, column, cell)."""
    lanes = _lanes()
    cells = points // lanes
    each = -(-cells // PARTS)
    names = ("ui", "us", "uf", "vj", "vs", "vf", "ti", "tj", "tf")
    values = {n: stride * 2 * lanes for n, stride in zip(names, (*u, *v, *to), strict=True)}
    values |= dict(zip("IJS", sizes, strict=True), F=cells, each=each, accumulate=int(accumulate))
    return Job(PRODUCTS, "double", Tile(2, 2), values, -(-cells // each), True)


def _job(generator: Generator, cut: Tiling, rank: int, parts: int, **values: int) -> Job:
    (tr, tc), (br, bc) = cut.tile, cut.block
    tables = [passes(tr), passes(tc)]
    words = {
        "TR": tr, "TC": tc, "BR": br, "BC": bc, "nc": cut.counts[1], "tiles": cut.tiles,
        "pairs": cut.pairs, "column_passes": tables[0].ctypes.data,
        "row_passes": tables[1].ctypes.data,
    }  # fmt: skip
    if rank == 1:
        tables.append(line_factors(tr, tc, _lanes()))
        words["line_factors"] = tables[2].ctypes.data
    return Job(generator, "double", Rank(rank), words | values, parts, True, tuple(tables))


def _source(source: View, lo: Size, read: Size) -> dict[str, int]:
    xn, xc, xh, xw = source.steps
    high, wide = source.image
    ph, pw = (0,) * (2 - len(lo)) + lo
    rows, columns = read if source.rank == 2 else (1, prod(read))
    return {
        "xn": xn, "xc": xc, "xh": xh, "xw": xw, "H": high, "W": wide, "ph": ph, "pw": pw,
        "LR": rows, "LC": columns,
    }  # fmt: skip


def _result(out: View) -> dict[str, int]:
    yn, yc, yh, yw = out.steps
    high, wide = out.image
    return {"yn": yn, "yc": yc, "yh": yh, "yw": yw, "OH": high, "OW": wide}


def _lanes() -> int:
    return compiler.target().lanes("double").count
