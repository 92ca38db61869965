"""Which cells of the input a weight touched, and that their sum is its gradient.

Tap k of a kernel meets the cells x_padded[k + s·p], one for each output position p, so

    dw[o,c,k] = Σ_p x_padded[c, k + s·p] · dy[o,p],        db[o] = Σ_p dy[o,p].

With a loss that is the mean of all outputs every dy is 1/(number of outputs): then dw is the sum
of the touched cells over the number of outputs. Shown for 1 and 2 channels on either side, with
padding and with strides; and that a sum in place of the mean takes all "normalisation" away.

    python examples/touched_cells.py
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from report import Report, arguments

import convgrad as cg

KERNEL = 3


@dataclass(frozen=True)
class Setting:
    """One convolution of a square image that holds 1, 2, 3, …, row by row, plane after plane."""

    inputs: int
    outputs: int
    size: int = 4
    padding: int = 0
    stride: int = 1
    batch: int = 1

    @property
    def x(self):
        planes = np.arange(1.0, self.inputs * self.size**2 + 1)
        return np.stack([planes.reshape(self.inputs, self.size, self.size)] * self.batch)

    @property
    def w(self):
        """Ones for the first output channel, twos for the second, …: so the kernels differ."""
        ones = np.ones((self.outputs, self.inputs, KERNEL, KERNEL))
        return ones * np.arange(1.0, self.outputs + 1).reshape(-1, 1, 1, 1)

    @property
    def b(self):
        return np.zeros(self.outputs)


SETTINGS = (
    Setting(1, 1),
    Setting(1, 2),
    Setting(2, 1),
    Setting(2, 2),
    Setting(1, 1, padding=1),
    Setting(1, 1, padding=1, stride=2),
    Setting(1, 1, size=6, stride=2),
)


def pad(x, padding):
    """Zeros around the two spatial axes."""
    return np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))


def touched(x, tap, setting, positions):
    """x_padded[k + s·p] for every output position p: (N, C, *positions)."""
    rows, columns = (
        slice(k, k + setting.stride * (n - 1) + 1, setting.stride) for k, n in zip(tap, positions)
    )
    return pad(x, setting.padding)[:, :, rows, columns]


def from_touched(setting, dy):
    """dw, tap by tap: each touched cell times the dy of its position, added up."""
    dw = np.zeros(setting.w.shape)
    for tap in np.ndindex(KERNEL, KERNEL):
        cells = touched(setting.x, tap, setting, dy.shape[2:])
        dw[:, :, tap[0], tap[1]] = np.einsum("ncij,noij->oc", cells, dy)
    return dw


def forward(setting):
    return cg.conv(setting.x, setting.w, setting.b, setting.stride, setting.padding)


def gradients(setting, loss):
    """dx, dw and db of the mean or the sum of all outputs."""
    y = forward(setting)
    dy = np.full_like(y, 1 / y.size if loss == "mean" else 1)
    return cg.backward(setting.x, setting.w, dy, setting.stride, setting.padding)


def by_pytorch(setting, loss, torch):
    """The same three by autograd, from the loss itself."""
    x, w, b = (torch.tensor(a, requires_grad=True) for a in (setting.x, setting.w, setting.b))
    y = torch.nn.functional.conv2d(x, w, b, setting.stride, setting.padding)
    (y.mean() if loss == "mean" else y.sum()).backward()
    return x.grad, w.grad, b.grad


def show_setting(report, setting):
    """One setting: input, output, the cells that w[0,0] of the first kernel touched, gradients."""
    y = forward(setting)
    dx, dw, db = gradients(setting, "mean")
    cells = touched(setting.x, (0, 0), setting, y.shape[2:])[0]
    report.title(
        f"channels {setting.inputs} → {setting.outputs}, padding {setting.padding}, "
        f"stride {setting.stride}",
        f"通道 {setting.inputs} → {setting.outputs}，填充 {setting.padding}，步幅 {setting.stride}",
    )
    report.show(report.pick("input", "输入"), setting.x[0])
    if setting.padding:
        padded = pad(setting.x, setting.padding)[0]
        report.show(report.pick("padded input", "填充后的输入"), padded)
    report.show(report.pick("output", "输出"), y[0])
    for c, block in enumerate(cells):
        name = f"w[0, {c}, 0, 0]"
        report.show(report.pick(f"cells that {name} touched", f"{name} 碰到的单元"), block)
        total, mean = block.sum(), block.sum() / y.size
        report.say(
            f"their sum is {total:g}; the mean is over {y.size} outputs: "
            f"{total:g}/{y.size} = {mean:g}",
            f"它们的和为 {total:g}；对 {y.size} 个输出取均值：{total:g}/{y.size} = {mean:g}",
        )
    report.show(report.pick("weight gradient", "权重梯度"), dw)
    report.show(report.pick("bias gradient", "偏置梯度"), db)
    if not dx[..., -1].any():
        report.show(report.pick("input gradient", "输入梯度"), dx[0])
        report.say(
            "no window reaches the last row and column: their gradient is 0",
            "没有窗口覆盖最后一行和最后一列，所以那里的梯度为 0",
        )
    compare(report, setting, "mean", (dx, dw, db))


def compare(report, setting, loss, ours):
    """The gradients beside the touched cells of all taps, and beside PyTorch."""
    y = forward(setting)
    dy = np.full_like(y, 1 / y.size if loss == "mean" else 1)
    difference = np.abs(from_touched(setting, dy) - ours[1]).max()
    if not difference <= 1e-12 * np.abs(ours[1]).max():
        raise SystemExit(f"dw differs from the touched cells' sums by {difference:.3g}")
    report.say(
        f"each of the {KERNEL}×{KERNEL} taps: its touched cells times dy add up to its dw",
        f"{KERNEL}×{KERNEL} 个权重逐一核对：碰到的单元乘以 dy 再求和，就是 dw",
    )
    theirs = partial(by_pytorch, setting, loss)
    for i, name in enumerate(("dx", "dw", "db")):
        report.agrees(name, ours[i], lambda torch, i=i: theirs(torch)[i])


def mean_against_sum(report):
    """dw[0,0,0,0] of both losses, for more channels, positions and samples."""
    report.title(
        "Mean against sum: what looks like a normalisation by channels",
        "均值与求和：所谓“按输出通道数标准化”从何而来",
    )
    report.say(
        "dw[0, 0, 0, 0] with the sum and with the mean of all outputs as the loss:",
        "损失取全部输出之和与均值时的 dw[0, 0, 0, 0]：",
    )
    for setting in (
        Setting(1, 1),
        Setting(1, 2),
        Setting(1, 4),
        Setting(1, 1024),
        Setting(1, 1, padding=1),
        Setting(1, 1, batch=2),
        Setting(1, 2, batch=2),
    ):
        (samples, channels, *positions), count = forward(setting).shape, forward(setting).size
        total, mean = (gradients(setting, loss)[1][0, 0, 0, 0] for loss in ("sum", "mean"))
        numbers = f"{samples} × {channels} × {np.prod(positions)}"
        report.say(
            f"samples × output channels × positions {numbers}: "
            f"sum {total:g}, mean {total:g}/{count} = {mean:.4g}",
            f"样本数 × 输出通道数 × 位置数 {numbers}："
            f"求和 {total:g}，均值 {total:g}/{count} = {mean:.4g}",
        )
    report.say(
        "The sum's gradient does not know how many output channels there are. The mean divides by "
        "the number of outputs, and channels, positions and samples all count: the division is "
        "the loss's, the convolution normalises nothing.",
        "损失取求和时，梯度与输出通道数无关。取均值时要除以输出的总数，"
        "通道、位置、样本都计入其中：除法来自损失函数，卷积本身不做任何标准化。",
    )
    for setting in (Setting(1, 2), Setting(2, 2)):
        report.say(
            f"the sum as the loss, channels {setting.inputs} → {setting.outputs}:",
            f"损失取求和，通道 {setting.inputs} → {setting.outputs}：",
        )
        compare(report, setting, "sum", gradients(setting, "sum"))


def main():
    report = Report(arguments(__doc__).parse_args().lang)
    report.say(
        "The loss is the mean of all outputs. The first kernel is all 1, the second all 2: dw does "
        "not show it, because y is linear in w.",
        "损失是全部输出的均值。第一个卷积核全为 1，第二个全为 2；y 对 w 是线性的，"
        "所以 dw 与卷积核的取值无关。",
    )
    for setting in SETTINGS:
        show_setting(report, setting)
    mean_against_sum(report)


if __name__ == "__main__":
    main()
