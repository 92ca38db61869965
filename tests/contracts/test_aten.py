"""contracts.aten gives PyTorch's numbers: drawn geometries, masks, dtypes, memory, signatures."""

from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from aten_calls import (  # noqa: E402
    BASES,
    REFUSALS,
    TORCHS,
    agree,
    arguments,
    convolutions,
    ours,
    torch_of,
    torchs,
    whole_numbers,
)
from aten_tables import INTEGERS, TURNED  # noqa: E402

from convgrad.contracts import aten  # noqa: E402
from convgrad.contracts.signature import Case  # noqa: E402
from convgrad.errors import DTypeError  # noqa: E402

MASKS = [list(mask) for mask in product((False, True), repeat=3)]


def operands(drawn, dtype=np.float64):
    """x, w, b, dy and the gradients of their gradients, of integer values."""
    shapes = {
        "x": drawn.input, "w": drawn.weight, "b": (drawn.out_channels,), "dy": drawn.output,
        "ggI": drawn.input, "ggW": drawn.weight, "ggb": (drawn.out_channels,),
    }  # fmt: skip
    return {name: whole_numbers(s, dtype, i) for i, (name, s) in enumerate(shapes.items())}


@given(convolutions())
def test_drawn_convolutions_are_exact(drawn):
    a, args = operands(drawn), tuple(drawn.settings.values())
    for bias in (a["b"], None):
        y = aten.convolution(a["x"], a["w"], bias, *args)
        agree((y,), torch_of(torch.ops.aten.convolution, a["x"], a["w"], bias, *args))


@settings(max_examples=40)
@given(convolutions())
def test_drawn_gradients_are_exact_for_all_masks(drawn):
    a, args = operands(drawn), tuple(drawn.settings.values())
    for mask in MASKS:
        call = (a["dy"], a["x"], a["w"], [drawn.out_channels], *args, mask)
        agree(
            aten.convolution_backward(*call),
            torch_of(torch.ops.aten.convolution_backward, *call),
        )


def double(a, drawn, given_names, mask):
    gg = [a[name] if name in given_names else None for name in ("ggI", "ggW", "ggb")]
    return (*gg, a["dy"], a["w"], a["x"], *drawn.settings.values(), mask)


@given(convolutions(), st.sets(st.sampled_from(["ggI", "ggW", "ggb"])))
def test_drawn_double_backwards_are_exact(drawn, names):
    a = operands(drawn)
    call = double(a, drawn, names, [True, True, True])
    found = aten.convolution_double_backward(*call)
    expected = torch_of(torch.ops.aten._convolution_double_backward, *call)
    if drawn.input[0] == 0:  # PyTorch's None stands for these zeros
        terms = ({"ggI", "ggW", "ggb"} & names, "ggW" in names, "ggI" in names)
        shapes = (drawn.output, drawn.input, drawn.weight)
        expected = [np.zeros(s) if term else None for s, term in zip(shapes, terms, strict=True)]
    agree(found, expected)


@settings(max_examples=40)
@given(convolutions())
def test_drawn_double_backwards_are_autograds(drawn):
    """Not the aten function: torch.autograd differentiates its own gradient of the convolution."""
    a = operands(drawn)
    t = {name: torch.from_numpy(array).requires_grad_() for name, array in a.items()}
    y = torch.ops.aten.convolution(t["x"], t["w"], t["b"], *drawn.settings.values())
    grads = torch.autograd.grad(y, (t["x"], t["w"], t["b"]), t["dy"], create_graph=True)
    gg = tuple(t[name].detach() for name in ("ggI", "ggW", "ggb"))
    expected = torch.autograd.grad(grads, (t["dy"], t["x"], t["w"]), gg, materialize_grads=True)
    found = aten.convolution_double_backward(*double(a, drawn, a, [True] * 3))
    agree(found, [g.numpy() for g in expected])


@pytest.mark.parametrize("mask", MASKS, ids=str)
def test_double_backward_keeps_to_the_mask(mask):
    """PyTorch computes what nobody asked for; here it is None."""
    found = ours("convolution_double_backward", {"output_mask": mask})
    expected = torchs("convolution_double_backward", {"output_mask": mask})
    assert all(want is not None for want in expected)
    agree(found, [w if wanted else None for w, wanted in zip(expected, mask, strict=True)])


@settings(max_examples=60)
@given(convolutions(transposed=(False,)))
def test_drawn_torch_grads_are_exact(drawn):
    a, rank = operands(drawn), len(drawn.stride)
    args = (drawn.stride, drawn.padding, drawn.dilation, drawn.groups)
    for name, first, second in (
        (f"conv{rank}d_input", drawn.input, a["w"]), (f"conv{rank}d_weight", a["x"], drawn.weight),
    ):  # fmt: skip
        call = (first, second, a["dy"], *args)
        agree((getattr(aten, name)(*call),), torch_of(getattr(torch.nn.grad, name), *call))


@given(convolutions(ranks=(2,), transposed=(False,)))
def test_drawn_unfolds_and_folds_are_exact(drawn):
    x = operands(drawn)["x"]
    args = (drawn.weight[2:], drawn.dilation, drawn.padding, drawn.stride)
    cols = aten.unfold(x, *args)
    agree((cols,), torch_of(torch.nn.functional.unfold, x, *args))
    call = (whole_numbers(cols.shape, seed=1), drawn.input[2:], *args)
    agree((aten.fold(*call),), torch_of(torch.nn.functional.fold, *call))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@settings(max_examples=30)
@given(convolutions())
def test_narrow_dtypes_are_exact_where_the_numbers_are(dtype, drawn):
    """Values of at most 1: float16 holds every sum that occurs, up to 2048."""
    a = {name: np.sign(array) for name, array in operands(drawn, dtype).items()}
    args = tuple(drawn.settings.values())
    call = (a["x"], a["w"], a["b"], *args)
    agree((aten.convolution(*call),), torch_of(torch.ops.aten.convolution, *call))
    call = (a["dy"], a["x"], a["w"], [drawn.out_channels], *args, [True, True, True])
    agree(aten.convolution_backward(*call), torch_of(torch.ops.aten.convolution_backward, *call))


NORMALS = {
    "convolution": {"input": (2, 8, 9, 8), "weight": (6, 8, 3, 3), "bias": (6,), "padding": [1, 1]},
    "transposed": {
        "input": (2, 8, 5, 4), "weight": (8, 6, 3, 3), "bias": (6,), "stride": [2, 2],
        "transposed": True,
    },
}  # fmt: skip
UNIT = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}


def values_and_gradients(convolution, backward, x, w, b, dy, args):
    y = convolution(x, w, b, *args)
    return (y, *backward(dy, x, w, [b.shape[0]], *args, [True, True, True]))


@pytest.mark.parametrize("name", NORMALS)
@pytest.mark.parametrize("dtype", UNIT)
def test_normal_numbers_are_rounded_once(dtype, name):
    """Within one rounding of PyTorch's float64; float16 and bfloat16 tensors in, tensors out.

    PyTorch's own float16 gradients are further off.
    """
    generator = torch.Generator().manual_seed(7)
    _, _, _, *args = arguments("convolution", NORMALS[name])
    x, w, b = (
        torch.randn(NORMALS[name][k], generator=generator, dtype=torch.float64)
        for k in ("input", "weight", "bias")
    )
    x, w, b = (t.to(getattr(torch, dtype)) for t in (x, w, b))
    theirs = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)
    dy = torch.randn(theirs[0](x, w, b, *args).shape, generator=generator).to(x.dtype)
    found = values_and_gradients(aten.convolution, aten.convolution_backward, x, w, b, dy, args)
    wide = [t.double() for t in (x, w, b, dy)]
    expected = values_and_gradients(*theirs, *wide, args)
    sizes = values_and_gradients(*theirs, *(t.abs() for t in wide), args)
    sums = min(UNIT[dtype], 2.0**-24)
    for got, want, size in zip(found, expected, sizes, strict=True):
        assert got.dtype == x.dtype
        error = (got.double() - want).abs()
        assert (error <= 1.01 * UNIT[dtype] * want.abs() + 16 * sums * size).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_complex_gradients_conjugate_as_pytorchs_do(transposed):
    """PyTorch's kernels know no complex numbers; its conv2d and their gradients do."""
    changes = {**TURNED, "stride": [2, 2]} if transposed else {"padding": [1, 2]}
    x, w, b, *args = arguments("convolution", changes | {"dtype": complex})
    with pytest.raises(REFUSALS, match="not implemented"):
        torchs("convolution", changes | {"dtype": complex})
    y = aten.convolution(x, w, b, *args)
    dy = whole_numbers(y.shape, complex, seed=9)
    t = [torch.from_numpy(a).requires_grad_() for a in (x, w, b, dy)]
    function = getattr(torch.nn.functional, "conv_transpose2d" if transposed else "conv2d")
    expected = function(*t[:3], stride=args[0], padding=args[1])
    agree((y,), (expected.detach().numpy(),))
    grads = torch.autograd.grad(expected, t[:3], t[3], create_graph=True)
    found = aten.convolution_backward(dy, x, w, [3], *args, [True, True, True])
    agree(found, [g.detach().resolve_conj().numpy() for g in grads])
    gg = [whole_numbers(a.shape, complex, seed) for seed, a in enumerate((x, w, b), start=10)]
    second = torch.autograd.grad(grads, (t[3], *t[:2]), [torch.from_numpy(g) for g in gg])
    found = aten.convolution_double_backward(*gg, dy, w, x, *args, [True, True, True])
    agree(found, [g.resolve_conj().numpy() for g in second])


@pytest.mark.parametrize("dtype", INTEGERS)
@settings(max_examples=40)
@given(convolutions())
def test_integers_are_exact_modulo_their_width(dtype, drawn):
    """As in PyTorch, where it has the kernel: int64 always, the others undilated convolutions."""
    info = np.iinfo(dtype)
    rng = np.random.default_rng([drawn.groups, *drawn.input])
    args = tuple(drawn.settings.values())
    call = (
        *(rng.integers(info.min, info.max, shape, dtype, endpoint=True)
          for shape in (drawn.input, drawn.weight, (drawn.out_channels,))),
        *args,
    )  # fmt: skip
    if dtype is np.int64 or (not drawn.transposed and max(drawn.dilation) == 1):
        agree((aten.convolution(*call),), torch_of(torch.ops.aten.convolution, *call))
    else:
        with pytest.raises(DTypeError, match=r"^convolution: "):
            aten.convolution(*call)


def test_int64_beyond_what_float64_holds():
    """2⁵³ + 1 has no float64: a detour through floating point would be seen."""
    x, w = np.full((1, 1, 3), 2**53 + 1), np.ones((1, 1, 2), np.int64)
    assert (aten.convolution(x, w, None, 1, 0, 1, False, 0, 1) == 2**54 + 2).all()
    y = aten.convolution(x, w, None, 1, 0, 1, True, 0, 1)
    assert y.tolist() == [[[2**53 + 1, 2**54 + 2, 2**54 + 2, 2**53 + 1]]]


def test_half_types_fold_with_one_rounding():
    cols = torch.randn((2, 3 * 25, 256), generator=torch.Generator().manual_seed(3))
    for dtype in (torch.float16, torch.bfloat16):
        rough = cols.to(dtype)
        exact = torch.nn.functional.fold(rough.double(), (20, 20), 5)
        assert torch.equal(aten.fold(rough, (20, 20), 5), exact.to(dtype))


@pytest.mark.parametrize("op", BASES)
def test_strided_operands_give_the_same(op):
    """Transposed, reversed and gappy memory, and operands that cannot be written."""

    def strided(array):
        wide = np.full((*array.shape[:-1], 2 * array.shape[-1]), np.nan)
        wide[..., ::-2] = array
        view = wide[..., ::-2]
        view.flags.writeable = False
        return view

    call = arguments(op, {})
    loose = [strided(a) if isinstance(a, np.ndarray) else a for a in call]
    function = getattr(aten, op)
    found, expected = function(*loose), function(*call)
    for got, want in zip(
        found if isinstance(found, tuple) else (found,),
        expected if isinstance(expected, tuple) else (expected,),
        strict=True,
    ):
        np.testing.assert_array_equal(got, want)


def as_case(drawn):
    a = operands(drawn)
    pads = tuple((p, p) for p in drawn.padding)
    return Case(
        a["x"], a["w"], a["b"], a["dy"], tuple(drawn.stride), pads, tuple(drawn.dilation),
        drawn.groups, drawn.transposed, tuple(drawn.output_padding), a["ggI"], a["ggW"], a["ggb"],
    )  # fmt: skip


@pytest.mark.parametrize("signature", aten.CONTRACT.signatures, ids=lambda s: s.name)
def test_signatures_call_pytorchs_own_functions_too(signature):
    """What a signature hands over is understood by the function that the convention comes from."""
    seen = Counter()

    def pytorchs(*arguments):
        found = torch_of(TORCHS[signature.name], *arguments)
        return found if len(found) > 1 else found[0]

    @settings(max_examples=80)
    @given(convolutions())
    def check(drawn):
        case = as_case(drawn)
        sentence = signature.refuses(case)
        seen[sentence is None] += 1
        if sentence is None and drawn.input[0]:
            found, expected = (signature.call(f, case) for f in (signature.function, pytorchs))
            assert tuple(found) == tuple(expected) == signature.gives
            agree(tuple(found.values()), tuple(expected.values()))

    check()
    assert seen[True] >= 5, seen


def worked(channels, outputs, padding=0, stride=1, mean=False, size=4):
    """grad_input, grad_weight and grad_bias of the docs page's example, input 1, 2, 3, …"""
    x = np.arange(1.0, 1 + channels * size**2).reshape(1, channels, size, size)
    w = np.ones((outputs, channels, 3, 3))
    settings = ([stride], [padding], [1], False, [0], 1)
    y = aten.convolution(x, w, None, *settings)
    dy = np.full_like(y, 1 / y.size if mean else 1)
    return aten.convolution_backward(dy, x, w, None, *settings, [True] * 3)


def test_the_pages_figures_of_touched_cells():
    plain = [[14, 18, 22], [30, 34, 38], [46, 50, 54]]
    assert worked(1, 1)[1][0, 0].tolist() == plain
    assert worked(1, 2)[1].tolist() == [[plain], [plain]]
    for channels, outputs, padding, total, mean in (
        (1, 1, 0, 14, 3.5), (1, 2, 0, 14, 1.75), (2, 1, 0, 14, 3.5), (2, 2, 0, 14, 1.75),
        (1, 1, 1, 54, 3.375),
    ):  # fmt: skip
        assert worked(channels, outputs, padding)[1][0, 0, 0, 0] == total
        assert worked(channels, outputs, padding, mean=True)[1][0, 0, 0, 0] == mean
    assert worked(2, 1)[1][0, 1, 0, 0] == 78
    assert worked(2, 1, mean=True)[1][0, 1, 0, 0] == 19.5
    assert [worked(1, outputs)[2].tolist() for outputs in (1, 2)] == [[4], [4, 4]]
    assert [worked(1, o, mean=True)[2].tolist() for o in (1, 2)] == [[1], [0.5, 0.5]]
    strided = [[6, 12, 14], [12, 24, 28], [20, 40, 44]]
    assert worked(1, 1, padding=1, stride=2)[1][0, 0].tolist() == strided
    dx = worked(1, 1, stride=2, size=6)[0][0, 0]
    assert not dx[5].any()
    assert not dx[:, 5].any()
    assert dx[:5, :5].all()


@pytest.mark.parametrize(
    ("rate", "losses"),
    [
        (0.01, [4, 4678.56, 5472230.9184, 6.400540171e9]),
        (1 / 1760, [4, 4, 4, 4]),
        (2e-4, [4, 0.350464, 0.0307062538, 0.00269035913]),
        (1 / 3520, [4, 0, 0, 0]),
    ],
)
def test_the_pages_figures_of_sgd(rate, losses):
    x, w = np.arange(1.0, 10).reshape(1, 1, 3, 3), np.array([[[[3.0, 2], [1, 5]]]])
    for step, loss in enumerate(losses):
        y = aten.convolution(x, w, None, [1], [0], [1], False, [0], 1)
        error = y.sum() - 230
        assert error**2 == pytest.approx(loss, rel=1e-8, abs=1e-20)
        dw = aten.conv2d_weight(x, w.shape, np.full_like(y, 2 * error))
        if step == 0:
            assert dw.ravel().tolist() == [48, 64, 96, 112]
        w = w - rate * dw
