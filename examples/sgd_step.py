"""One SGD step by hand and by an optimizer, and what follows when it is repeated.

x (3×3) holds 1 to 9, K is a 2×2 kernel. σ = conv(x, K), S = Σσ, L = (S − 230)². The chain rule:

    dL/dS = 2(S − 230),    dσ = dL/dS everywhere,    dK[k] = Σ_p x[p + k]·dσ[p] = dL/dS · s[k]

with s[k] = Σ_p x[p + k], which is (12, 16, 24, 28). S = s·K is linear in K, so a step K ← K − α·dK
multiplies the error e = S − 230 by a number that never changes:

    e ← e·(1 − 2α‖s‖²),    ‖s‖² = 144 + 256 + 576 + 784 = 1760.

It converges where |1 − 2α‖s‖²| < 1, that is for 0 < α < 1/1760 ≈ 5.7e-4. At 0.01 the error grows
34.2-fold with each step; at 2e-4 it shrinks to 0.296 of itself.

    python examples/sgd_step.py [--plot PATH]       the plot needs matplotlib
"""

import importlib.util
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from report import Report, arguments

import convgrad as cg
from convgrad import nn

X = np.arange(1.0, 10).reshape(1, 1, 3, 3)
START = np.array([3.0, 2, 1, 5]).reshape(1, 1, 2, 2)
REACH = cg.weight_grad(X, START.shape, np.ones((1, 1, 2, 2)))  # s[k] = Σ_p x[p + k]
TARGET = 230.0
STEPS = 20


@dataclass(frozen=True)
class Rate:
    """A learning rate α, how it is written, and how it is drawn."""

    value: float
    text: str
    line: str
    colour: str


TOO_LARGE = Rate(0.01, "0.01", "o-", "#c4500a")
BOUND = Rate(1 / 1760, "1/1760", "d--", "#6b6b6b")
SMALL = Rate(2e-4, "2e-4", "s-", "#1f5fa8")
RATES = (TOO_LARGE, BOUND, SMALL)


def error(kernel):
    """e = Σ conv(x, K) − 230."""
    return float(cg.conv(X, kernel).sum()) - TARGET


def kernel_grad(kernel):
    """dK of L = e², by the chain rule: every σ gets dL/dS."""
    sigma = cg.conv(X, kernel)
    d_sigma = np.full_like(sigma, 2 * (sigma.sum() - TARGET))
    return cg.weight_grad(X, kernel.shape, d_sigma)


def step_by_hand(kernel, rate):
    return kernel - rate * kernel_grad(kernel)


def network():
    """σ = conv(x, K), S = Σσ as a model of two layers, with K as it starts."""
    model = nn.Model([nn.Conv(1, 2, bias=False), nn.Sum()], X.shape[1:], "net", "float64")
    model.load({"00_conv.weight": START})
    return model


def steps_by_optimizer(rate, steps):
    """K after that many steps of nn.SGD."""
    model, loss, sgd = network(), nn.MSE(), nn.SGD(lr=rate)
    for _ in range(steps):
        _, dy = loss.value_and_grad(model.forward(X, training=True), np.array([TARGET]))
        model.backward(dy, need_input=False)
        sgd.step(model.parameters(), model.gradients())
    return model.parameters()["00_conv.weight"]


def steps_by_pytorch(rate, steps, torch):
    """K after that many steps of torch.optim.SGD."""
    x, kernel = torch.tensor(X), torch.tensor(START, requires_grad=True)
    sgd = torch.optim.SGD([kernel], lr=rate)
    for _ in range(steps):
        sgd.zero_grad()
        ((torch.nn.functional.conv2d(x, kernel).sum() - TARGET) ** 2).backward()
        sgd.step()
    return kernel.detach()


def grad_by_pytorch(torch):
    kernel = torch.tensor(START, requires_grad=True)
    ((torch.nn.functional.conv2d(torch.tensor(X), kernel).sum() - TARGET) ** 2).backward()
    return kernel.grad


def errors(rate):
    """e before each of the steps and after the last, all by hand."""
    kernel, found = START, [error(START)]
    for _ in range(STEPS):
        kernel = step_by_hand(kernel, rate)
        found.append(error(kernel))
    return np.array(found)


def show_start(report):
    """The network, its output and loss, and the gradient."""
    report.title("The network and its gradient", "网络与梯度")
    report.show(report.pick("network", "网络"), network())
    sigma = cg.conv(X, START)
    report.show("x", X[0, 0])
    report.show("K", START[0, 0])
    report.show("σ", sigma[0, 0])
    report.show("S", sigma.sum())
    report.show("L = (S − 230)²", error(START) ** 2)
    report.show("s", REACH[0, 0])
    report.show("dK = 2(S − 230)·s", kernel_grad(START)[0, 0])
    report.agrees("dK", kernel_grad(START), grad_by_pytorch)


def one_step(report):
    """K after one step of 0.01, by hand and by nn.SGD."""
    report.title("One step, learning rate 0.01", "更新一步，学习率 0.01")
    theirs = partial(steps_by_pytorch, TOO_LARGE.value, 1)
    by_hand = step_by_hand(START, TOO_LARGE.value)
    by_hand_name = report.pick("K by hand", "手工更新后的 K")
    report.show(by_hand_name, by_hand[0, 0])
    report.agrees(by_hand_name, by_hand, theirs)
    by_sgd = steps_by_optimizer(TOO_LARGE.value, 1)
    by_sgd_name = report.pick("K by nn.SGD", "nn.SGD 更新后的 K")
    report.show(by_sgd_name, by_sgd[0, 0])
    report.agrees(by_sgd_name, by_sgd, theirs)
    before, after = error(START) ** 2, error(by_hand) ** 2
    report.say(
        f"The loss was {before:g}, now it is {after:g}: this learning rate is too large.",
        f"损失由 {before:g} 变成 {after:g}：这个学习率太大了。",
    )


def run_on(report):
    """The error over twenty steps for each rate; returns it."""
    report.title("Run on: e = S − 230", "继续迭代：e = S − 230")
    squares = float((REACH**2).sum())
    report.show("‖s‖²", f"{squares:g}")
    for rate in RATES:
        factor = f"1 − 2α‖s‖² = {1 - 2 * rate.value * squares:.4g}"
        report.say(
            f"α = {rate.text}: each step multiplies e by {factor}",
            f"α = {rate.text}：每更新一步，e 乘以 {factor}",
        )
    traces = [errors(rate.value) for rate in RATES]
    print("   t" + "".join(f"{'e, α = ' + rate.text:>16}" for rate in RATES))
    for t in (*range(7), STEPS):
        print(f"{t:4}" + "".join(f"{trace[t]:16.4g}" for trace in traces))
    report.say(
        "0.01 diverges, 2e-4 converges. At 1/1760 the error only changes its sign, below that it "
        "shrinks; half of it, 1/3520, meets the target in one step:",
        "0.01 发散，2e-4 收敛。取 1/1760 时误差只变号，再小就逐步缩小；"
        "取其一半 1/3520，一步就到目标：",
    )
    nearest = step_by_hand(START, BOUND.value / 2)
    report.show(f"|e|, α = 1/{2 * squares:g}", f"{abs(error(nearest)):.6f}")
    report.show("K", nearest[0, 0])
    return traces


def compare_ends(report):
    """K after twenty steps beside PyTorch's; the one that grew is measured by its own size."""
    size = abs(1 - 2 * TOO_LARGE.value * (REACH**2).sum()) ** STEPS
    report.agrees(
        report.pick(
            f"K after {STEPS} steps of 0.01, divided by 34.2^{STEPS}",
            f"K（{STEPS} 步，学习率 0.01），除以 34.2^{STEPS} 之后",
        ),
        steps_by_optimizer(TOO_LARGE.value, STEPS) / size,
        lambda torch: steps_by_pytorch(TOO_LARGE.value, STEPS, torch) / size,
    )
    end = steps_by_optimizer(SMALL.value, STEPS)
    name = report.pick(f"K after {STEPS} steps of 2e-4", f"K（{STEPS} 步，学习率 2e-4）")
    report.show(name, end[0, 0])
    report.agrees(name, end, partial(steps_by_pytorch, SMALL.value, STEPS))
    report.say(
        "1/3520 and 2e-4 lead to the same kernel, K − e·s/‖s‖² from the start: of all kernels that "
        "meet the target it is the nearest.",
        "1/3520 和 2e-4 到达同一个卷积核，即起点的 K − e·s/‖s‖²：在所有达到目标的卷积核中，"
        "它离起点最近。",
    )


def draw(traces, path, across):
    """|e| of each rate on a logarithmic scale; labels without Chinese, so that any font will do."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for rate, trace in zip(RATES, traces):
        factor = f"{1 - 2 * rate.value * (REACH**2).sum():.4g}".replace("-", "−")
        label = f"α = {rate.text}:  e ← e × ({factor})"
        axes.semilogy(np.abs(trace), rate.line, color=rate.colour, label=label, markersize=5)
    axes.set(xlabel=across, ylabel="|e| = |S − 230|", title="e ← e·(1 − 2α‖s‖²),  ‖s‖² = 1760")
    axes.set_xticks(range(0, STEPS + 1, 2))
    axes.set_yticks([10.0**power for power in range(-10, 35, 5)])
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    figure.savefig(path)


def plot(report, traces, path):
    """Draw where that is possible, and say where the picture is or why there is none."""
    if importlib.util.find_spec("matplotlib") is None:
        report.say(
            "no plot: matplotlib is not installed (python -m pip install matplotlib)",
            "未画图：没有安装 matplotlib（python -m pip install matplotlib）",
        )
        return
    try:
        draw(traces, path, report.pick("step t", "t"))
    except (OSError, ValueError) as failure:
        sys.exit(report.pick(f"cannot write {path}: {failure}", f"无法写入 {path}：{failure}"))
    report.show(report.pick("plot", "图"), path.resolve())


def main():
    parser = arguments(__doc__)
    parser.add_argument(
        "--plot", type=Path, default=Path("sgd_step.png"), metavar="PATH",
        help="where to draw |e| over the steps / 图片保存到哪里 (default: %(default)s)",
    )  # fmt: skip
    options = parser.parse_args()
    report = Report(options.lang)
    show_start(report)
    one_step(report)
    traces = run_on(report)
    compare_ends(report)
    plot(report, traces, options.plot)


if __name__ == "__main__":
    main()
