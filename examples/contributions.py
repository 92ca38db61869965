"""Forward and backward of a convolution by contributions, on one small image (H, W, C).

Every number of the output is z = Σ w·a + b. Read backwards, each product w·a hands a·dz to dw and
w·dz to da, and each sum hands dz to db. This script shows what one number of the output reads and
hands back, adds up what all of them hand back, in loops, and finds the gradients of conv2d_backward
and of PyTorch. All numbers are integers, so the differences are exactly 0.
"""

import sys
import time
from functools import partial

import numpy as np
from report import Report, arguments

from convgrad.contracts.numpy_cache import conv2d_backward, conv2d_forward

SETTINGS = [(2, 1), (1, 0), (1, 1), (2, 0), (3, 2)]  # (stride, padding)


def pad(A_prev, padding):
    return np.pad(A_prev, ((padding, padding), (padding, padding), (0, 0)))


def window_at(p, q, f, stride):
    """The rows and columns of the padded input that output pixel (p, q) reads."""
    return np.s_[p * stride : p * stride + f, q * stride : q * stride + f]


def gradients_by_contributions(A_prev, W, dZ, stride, padding):
    """dW, db, dA_prev, as each number of the output adds its part."""
    height, width, _ = A_prev.shape
    padded = pad(A_prev, padding)
    dW, db, d_padded = np.zeros(W.shape), np.zeros(len(W)), np.zeros(padded.shape)
    for p, q, o in np.ndindex(dZ.shape):
        window = window_at(p, q, W.shape[1], stride)
        dW[o] += padded[window] * dZ[p, q, o]
        d_padded[window] += W[o] * dZ[p, q, o]
        db[o] += dZ[p, q, o]
    return dW, db, d_padded[padding : padding + height, padding : padding + width]


def gradients_by_pytorch(A_prev, W, b, dZ, stride, padding, torch):
    """dW, db, dA_prev in the layout of the arrays that came, by autograd."""
    x = torch.tensor(A_prev).permute(2, 0, 1)[None].requires_grad_()
    w = torch.tensor(W).permute(0, 3, 1, 2).requires_grad_()
    bias = torch.tensor(b).requires_grad_()
    z = torch.nn.functional.conv2d(x, w, bias, stride, padding)
    z.backward(torch.tensor(dZ).permute(2, 0, 1)[None])
    return w.grad.permute(0, 2, 3, 1), bias.grad, x.grad[0].permute(1, 2, 0)


def upstream(shape):
    """A gradient dZ to start from, as the layers behind would hand it over."""
    return np.resize([3.0, -1.0, 2.0, -2.0, 1.0], shape)


def show_channels(report, name, array):
    """An array (rows, columns, channels), one channel after the other."""
    for c in range(array.shape[-1]):
        title = name + report.pick(f", channel {c}", f"，通道 {c}")
        report.show(title, array[..., c].astype(int))


def one_number(report, A_prev, W, b, stride, padding):
    """What Z[0, 1, 0] reads, and what its gradient hands back."""
    p, q, o = 0, 1, 0
    pick, Z = report.pick, conv2d_forward(A_prev, W, b, stride, padding)["Z"]
    dz = int(upstream(Z.shape)[p, q, o])
    window = pad(A_prev, padding)[window_at(p, q, W.shape[1], stride)]
    report.title(f"stride {stride}, padding {padding}", f"步幅 {stride}，填充 {padding}")
    show_channels(report, pick("padded input", "填充后的输入"), pad(A_prev, padding))
    show_channels(report, "W[0]", W[o])

    report.title(f"Forward: Z[{p}, {q}, {o}]", f"正向：Z[{p}, {q}, {o}]")
    show_channels(report, pick("window", "窗口"), window)
    show_channels(report, pick("window * W[0]", "窗口 * W[0]"), window * W[o])
    products = int((window * W[o]).sum())
    report.show(pick("sum of the products + b[0]", "乘积之和 + b[0]"), f"{products} + {b[o]:.0f}")
    report.show(f"Z[{p}, {q}, {o}]", int(Z[p, q, o]))
    if products + b[o] != Z[p, q, o]:
        sys.exit("the products and the bias do not add up to Z")

    report.title(f"Backward: dZ[{p}, {q}, {o}] = {dz}", f"反向：dZ[{p}, {q}, {o}] = {dz}")
    show_channels(report, pick("to dW[0]: window * dZ", "对 dW[0] 的贡献：窗口 * dZ"), window * dz)
    to_input = pick("to dA_prev at the window: W[0] * dZ", "对 dA_prev 窗口处的贡献：W[0] * dZ")
    show_channels(report, to_input, W[o] * dz)
    report.show(pick("to db[0]: dZ", "对 db[0] 的贡献：dZ"), dz)


def all_numbers(report, A_prev, W, b, stride, padding):
    """The contributions of all of Z, added up, beside conv2d_backward and PyTorch."""
    cache = conv2d_forward(A_prev, W, b, stride, padding)
    dZ = upstream(cache["Z"].shape)
    summed = gradients_by_contributions(A_prev, W, dZ, stride, padding)
    ours = conv2d_backward(dZ, cache, stride, padding)
    theirs = partial(gradients_by_pytorch, A_prev, W, b, dZ, stride, padding)
    report.title(
        f"All of Z {dZ.shape}: stride {stride}, padding {padding}",
        f"整个 Z {dZ.shape}：步幅 {stride}，填充 {padding}",
    )
    for i, name in enumerate(("dW", "db", "dA_prev")):
        if (difference := np.abs(summed[i] - ours[i]).max()) != 0:
            sys.exit(f"{name}: the contributions differ from conv2d_backward by {difference}")
        report.say(
            f"{name}: the contributions add up to conv2d_backward's: difference {difference:.0f}",
            f"{name}：各项贡献之和与 conv2d_backward 相同，最大差 {difference:.0f}",
        )
        report.agrees(name, ours[i], lambda torch, i=i: theirs(torch)[i])
    return {"dW[0]": ours[0][0], "dA_prev": ours[2]}


def measure(report, rng):
    """The loops beside conv2d_backward: 32×32×16 → 32 channels, 3×3 kernel, padding 1, float64."""
    A_prev, W = rng.standard_normal((32, 32, 16)), rng.standard_normal((32, 3, 3, 16))
    dZ, ticks = rng.standard_normal((32, 32, 32)), []
    for _ in range(7):
        ticks.append([time.perf_counter()])
        gradients_by_contributions(A_prev, W, dZ, 1, 1)
        ticks[-1].append(time.perf_counter())
        conv2d_backward(dZ, {"W": W, "A_prev": A_prev}, 1, 1)
        ticks[-1].append(time.perf_counter())
    loops, maps = np.median(np.diff(ticks), axis=0) * 1e3
    report.say(
        f"32×32×16 → 32, 3×3, padding 1: loops {loops:.0f} ms, conv2d_backward {maps:.1f} ms, "
        f"{loops / maps:.0f} times as long (medians of 7, in turns)",
        f"32×32×16 → 32，3×3，填充 1：循环 {loops:.0f} ms，conv2d_backward {maps:.1f} ms，"
        f"相差 {loops / maps:.0f} 倍（交替运行各 7 次，取中位数）",
    )


def main():
    parser = arguments(__doc__)
    parser.add_argument("--time", action="store_true", help="time the loops / 测量循环的耗时")
    options = parser.parse_args()
    report, rng = Report(options.lang), np.random.default_rng(1)
    if options.time:
        measure(report, rng)
        return
    A_prev, W = rng.integers(-3, 4, (4, 4, 2)) * 1.0, rng.integers(-2, 3, (2, 3, 3, 2)) * 1.0
    b = np.array([1.0, -2.0])
    one_number(report, A_prev, W, b, *SETTINGS[0])
    for layer in SETTINGS:
        for name, array in all_numbers(report, A_prev, W, b, *layer).items():
            show_channels(report, name, array)


if __name__ == "__main__":
    main()
