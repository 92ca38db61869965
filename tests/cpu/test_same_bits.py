"""The generated kernels give the same bits for any number of threads, and a sample in any batch."""

import numpy as np
import pytest
from engine_cases import noting

import convgrad as cg

# Batch and input shape, weight shape, settings; the kernels that must be among those that run.
# Each has enough products for the pool (tiling.SMALL), so that several threads really share it.
LAYERS = {
    "3x3": ((5, 6, 20, 20), (9, 6, 3, 3), {"padding": 1}, {"multiply", "outer"}),
    "strided and dilated": (
        (5, 10, 23, 21), (12, 10, 3, 2), {"stride": (2, 3), "dilation": 2, "padding": 2},
        {"weave"},
    ),
    "1x1": ((5, 12, 15, 17), (40, 12, 1, 1), {}, {"multiply", "outer"}),
    "1x1, one large image": ((3, 24, 60, 70), (24, 24, 1, 1), {}, {"multiply", "outer"}),
    "many channels": ((5, 20, 9, 9), (70, 20, 3, 3), {"padding": 1}, {"multiply", "outer"}),
    "first layer": ((5, 3, 30, 30), (8, 3, 5, 5), {"stride": 2}, {"multiply", "outer"}),
    "depthwise": ((5, 24, 18, 18), (24, 1, 3, 3), {"groups": 24, "padding": 1}, {"outer"}),
    "grouped": ((5, 32, 12, 12), (64, 8, 3, 3), {"groups": 4, "padding": 1}, {"outer"}),
    "1-D, long": ((5, 4, 3000), (6, 4, 9), {"padding": 4}, {"multiply", "outer"}),
    "wide dilation": (
        (5, 16, 40, 40), (12, 16, 3, 3), {"padding": 12, "dilation": 12}, {"multiply"},
    ),
    "3-D": ((5, 9, 6, 7, 8), (17, 9, 2, 3, 3), {"padding": 1}, {"multiply", "outer"}),
}  # fmt: skip
DTYPES = ("float32", "float64")
OTHER_DTYPES = ("float16", "bfloat16", "complex64")
CASES = [(layer, dtype) for layer in LAYERS for dtype in DTYPES]
CASES += [(layer, dtype) for layer in ("1x1", "many channels") for dtype in OTHER_DTYPES]
each_case = pytest.mark.parametrize(("layer", "dtype"), CASES)


@pytest.fixture(autouse=True)
def threads_as_before():
    before = cg.get_num_threads()
    yield
    cg.set_num_threads(before)


def numbers(rng, shape, dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def operands(rng, layer, dtype):
    x_shape, w_shape, settings, _ = LAYERS[layer]
    x, w = numbers(rng, x_shape, dtype), numbers(rng, w_shape, dtype)
    dy_shape = cg.conv(x, w, **settings, algorithm="implicit_gemm").shape
    return x, w, numbers(rng, dy_shape, dtype), settings


def maps(x, w, dy, settings):
    """y, dx, dw of the generated kernels, as bytes."""
    named = settings | {"algorithm": "implicit_gemm"}
    y = cg.conv(x, w, **named)
    dx = cg.input_grad(x.shape, w, dy, **named)
    dw = cg.weight_grad(x, w.shape, dy, **named)
    assert not any(np.isnan(a.astype("complex128")).any() for a in (y, dx, dw))
    return [a.tobytes() for a in (y, dx, dw)]


def test_the_layers_reach_every_kernel_of_the_maps(rng):
    every = set()
    for layer, (*_, kernels) in LAYERS.items():
        with noting() as seen:
            maps(*operands(rng, layer, "float32"))
        assert kernels <= seen.names, layer
        every |= seen.names
    assert every == {"pack_weights", "multiply", "weave", "outer", "add_pieces"}


@each_case
def test_any_number_of_threads_gives_the_same_bits(rng, layer, dtype):
    given = operands(rng, layer, dtype)
    cg.set_num_threads(1)
    want = maps(*given)
    for count in (2, 3, 5):
        cg.set_num_threads(count)
        for _ in range(3):  # who takes which part differs from call to call
            assert maps(*given) == want, f"{count} threads"


@each_case
def test_a_sample_has_the_same_bits_in_any_batch(rng, layer, dtype):
    x, w, dy, settings = operands(rng, layer, dtype)
    named = settings | {"algorithm": "implicit_gemm"}
    y, dx = cg.conv(x, w, **named), cg.input_grad(x.shape, w, dy, **named)
    cuts = [slice(i, i + 1) for i in range(len(x))] + [slice(0, 2), slice(1, len(x))]
    cuts += [slice(None, None, -1), slice(0, None, 2)]
    for cut in cuts:
        part = cg.conv(x[cut], w, **named)
        assert part.tobytes() == y[cut].tobytes(), cut
        part = cg.input_grad(x[cut].shape, w, dy[cut], **named)
        assert part.tobytes() == dx[cut].tobytes(), cut


@pytest.mark.parametrize("layer", ["3x3", "1x1", "many channels"])
def test_a_sample_has_the_same_bits_in_a_large_batch(rng, layer):
    x, w, dy, settings = operands(rng, layer, "float32")
    named = settings | {"algorithm": "implicit_gemm"}
    many, many_dy = np.concatenate([x] * 9), np.concatenate([dy] * 9)
    y, dx = cg.conv(x, w, **named), cg.input_grad(x.shape, w, dy, **named)
    assert cg.conv(many, w, **named).tobytes() == np.concatenate([y] * 9).tobytes()
    got = cg.input_grad(many.shape, w, many_dy, **named)
    assert got.tobytes() == np.concatenate([dx] * 9).tobytes()
