"""Products of spectra: at each frequency, a product of two small complex matrices."""

from collections.abc import Iterable
from itertools import product

from convgrad.cpu.jit.language import Kernel, Lanes
from convgrad.cpu.job import Generator
from convgrad.cpu.kernels.frame import start
from convgrad.cpu.overlap_save.kernels import fft
from convgrad.cpu.tiling import Tile

FIELDS = (
    "u", "v", "to", "ui", "us", "uf", "vj", "vs", "vf", "ti", "tj", "tf", "I", "J", "S", "F",
    "each", "accumulate",
)  # fmt: skip


def block(lanes: Lanes, height: int, width: int) -> Kernel:
    """to[i, j] (+)= Σ_s u[i, s] · v[j, s]* for `height` rows i and `width` columns j."""
    names = ("ui", "us", "vj", "vs", "ti", "tj", "S", "accumulate")
    k = Kernel(
        f"block{height}x{width}",
        ["to: ptr", "u: ptr", "v: ptr", *(f"{n}: i64" for n in names)], lanes,
    )  # fmt: skip
    to, u, v, ui, us, vj, vs, ti, tj, count, accumulate = k.parameters
    places = list(product(range(height), range(width)))
    zeros = [k.zero()] * (2 * len(places))
    with k.loop(count, carry=zeros) as (s, sums):
        us_, vs_ = u.at(s * us), v.at(s * vs)
        a = [fft.read(us_.at(ui * i), 0) for i in range(height)]
        b = [fft.read(vs_.at(vj * j), 0) for j in range(width)]
        new = []
        for (i, j), re, im in zip(places, sums.values[::2], sums.values[1::2], strict=True):
            (ar, ai), (br, bi) = a[i], b[j]
            new += [k.fma(ai, bi, k.fma(ar, br, re)), k.fma(-ar, bi, k.fma(ai, br, im))]
        sums.values = new
    with k.when(accumulate.equals(1)):
        for number, (i, j) in enumerate(places):
            at = to.at(ti * i + tj * j)
            total = (sums.values[2 * number], sums.values[2 * number + 1])
            fft.write(at, 0, fft.add(fft.read(at, 0), total))
    with k.when(accumulate.equals(0)):
        for number, (i, j) in enumerate(places):
            total = (sums.values[2 * number], sums.values[2 * number + 1])
            fft.write(to.at(ti * i + tj * j), 0, total)
    return k


def products(lanes: Lanes, tile: Tile) -> str:
    """to[f][i, j] (+)= Σ_s u[f][i, s] · v[f][j, s]*; a part is `each` of the cells f."""
    k, a = start("products", lanes, FIELDS)
    _, part, _ = k.parameters
    first = part * a["each"]
    with k.loop((first + a["each"]).minimum(a["F"]), start=first) as (f, _):
        u, v, to = a["u"].at(f * a["uf"]), a["v"].at(f * a["vf"]), a["to"].at(f * a["tf"])
        whole_i = a["I"] // tile.height * tile.height
        whole_j = a["J"] // tile.vectors * tile.vectors
        spans_i = ((tile.height, k.constant("i64", 0), whole_i), (1, whole_i, a["I"]))
        spans_j = ((tile.vectors, k.constant("i64", 0), whole_j), (1, whole_j, a["J"]))
        for (height, i0, i1), (width, j0, j1) in product(spans_i, spans_j):
            with k.loop(i1, start=i0, step=height) as (i, _):
                with k.loop(j1, start=j0, step=width) as (j, _):
                    k.do(
                        block(lanes, height, width), to.at(i * a["ti"] + j * a["tj"]),
                        u.at(i * a["ui"]), v.at(j * a["vj"]), a["ui"], a["us"], a["vj"], a["vs"],
                        a["ti"], a["tj"], a["S"], a["accumulate"],
                    )  # fmt: skip
    return k.text()


def product_tiles(_level: str) -> Iterable[Tile]:
    return (Tile(2, 2),)


PRODUCTS = Generator("products", products, FIELDS, product_tiles)
