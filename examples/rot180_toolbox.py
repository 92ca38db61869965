"""Why the kernel is turned by 180° on the way back, in numbers; then a MATLAB toolbox's CNN learns.

First one window and one number: dx is δ times the kernel, and a correlation over δ among zeros
gives it only with the kernel turned. Then larger maps and both kinds of forward: after a
correlation dx is the true convolution with K; after a true convolution (MATLAB's convn, so the
toolbox's layers) it is the true convolution with rot180(K). Last the toolbox's CNN: its gradients
beside differences and PyTorch, and its error on digits as it learns.
"""

from itertools import product

import numpy as np
from report import Report, arguments

import convgrad as cg
from convgrad.contracts.deeplearntoolbox import (
    cnnbp,
    cnnff,
    cnnnumgradcheck,
    cnnsetup,
    cnntest,
    cnntrain,
    convn,
    flipall,
    rot180,
)
from convgrad.nn.data.digits import read_digits

SMALL = [{"type": "i"}, {"type": "c", "outputmaps": 2, "kernelsize": 5}, {"type": "s", "scale": 6}]
LAYERS = [
    {"type": "i"},
    {"type": "c", "outputmaps": 6, "kernelsize": 5}, {"type": "s", "scale": 2},
    {"type": "c", "outputmaps": 12, "kernelsize": 5}, {"type": "s", "scale": 2},
]  # fmt: skip


def correlate(x, k):
    """y[p] = Σ_q x[p + q]·k[q] on two axes."""
    return cg.conv(x[None, None], k[None, None])[0, 0]


def contributions(shape, k, dy):
    """dx of a correlation: y[p] read x[p + q] times k[q], so it hands k[q]·dy[p] back to it."""
    dx = np.zeros(shape)
    for p, q in product(np.ndindex(dy.shape), np.ndindex(k.shape)):
        dx[p[0] + q[0], p[1] + q[1]] += k[q] * dy[p]
    return dx


def autograd(torch, x, K, dy, turned):
    """dx and dK by PyTorch, whose conv2d is a correlation."""
    x, K = (torch.tensor(one, requires_grad=True) for one in (x, K))
    y = torch.nn.functional.conv2d(x[None, None], (K.flip(0, 1) if turned else K)[None, None])
    return torch.autograd.grad(y, (x, K), torch.tensor(dy)[None, None])


def one_window(report):
    """A 2×2 window X and a 2×2 kernel K make one number, whose gradient is δ."""
    X, K, delta = np.array([[1.0, 2], [3, 4]]), np.array([[1.0, 3], [5, 7]]), 2.0
    padded, pick = np.pad([[delta]], 1), report.pick
    report.title("One window", "一个窗口")
    for name, value in (("X", X), ("K", K), ("rot180(K)", rot180(K)), ("δ", delta)):
        report.show(name, value)
    report.show(pick("correlation of X and K", "X 与 K 的互相关"), correlate(X, K)[0, 0])
    report.show(pick("their true convolution", "两者的真卷积"), convn(X, K, "valid")[0, 0])
    report.show(pick("after a correlation, dX = δ·K", "互相关之后，dX = δ·K"), delta * K)
    report.show(
        pick("after a true convolution, dX = δ·rot180(K)", "真卷积之后，dX = δ·rot180(K)"),
        delta * rot180(K),
    )
    report.show(pick("δ among zeros", "δ 四周补零"), padded)
    report.show(pick("this correlated with K", "它与 K 作互相关"), correlate(padded, K))
    report.show(
        pick("this correlated with rot180(K)", "它与 rot180(K) 作互相关"),
        correlate(padded, rot180(K)),
    )


def larger_maps(report):
    """A 4×5 map and a 3×2 kernel, after either forward."""
    x, dy = np.resize([2.0, -1, 3, 0, 1, -2, 4], (4, 5)), np.resize([1.0, -2, 3, 2, -1], (2, 4))
    K = np.array([[1.0, 2], [0, -1], [3, -2]])
    report.title("Larger maps", "更大的特征图")
    for name, value in (("x", x), ("K", K), ("rot180(K)", rot180(K)), ("dy", dy)):
        report.show(name, value)
    report.title("Forward: a correlation, as in PyTorch", "正向：互相关，与 PyTorch 相同")
    dK = rot180(convn(flipall(x), dy, "valid"))
    report.show('dx = convn(dy, K, "full")', convn(dy, K, "full"))
    report.show('dK = rot180(convn(flipall(x), dy, "valid"))', dK)
    compare(report, x, K, dy, convn(dy, K, "full"), dK, turned=False)
    report.title("Forward: a true convolution, as in the toolbox", "正向：真卷积，与工具箱相同")
    dK = convn(flipall(x), dy, "valid")
    report.show('dx = convn(dy, rot180(K), "full")', convn(dy, rot180(K), "full"))
    report.show('dK = convn(flipall(x), dy, "valid")', dK)
    compare(report, x, K, dy, convn(dy, rot180(K), "full"), dK, turned=True)


def compare(report, x, K, dy, dx, dK, turned):
    """dx and dK beside contributions, input_grad and PyTorch; and what a mixed-up kernel costs."""
    on_x = rot180(K) if turned else K  # the kernel as the forward lays it on x
    mapped = cg.input_grad((1, 1, *x.shape), K[None, None], dy[None, None], flip=turned)[0, 0]
    pick, mixed = report.pick, convn(dy, rot180(on_x), "full")
    for name, other in (
        (pick("by contributions", "逐项贡献"), contributions(x.shape, on_x, dy)),
        (pick("by input_grad", "input_grad"), mapped),
        (pick("with the kernel the other way round", "核的方向弄反"), mixed),
    ):
        difference = abs(dx - other).max()
        report.say(f"dx {name}: difference {difference:g}", f"dx，{name}：相差 {difference:g}")
    report.agrees("dx", dx, lambda torch: autograd(torch, x, K, dy, turned)[0])
    report.agrees("dK", dK, lambda torch: autograd(torch, x, K, dy, turned)[1])


def digits():
    """The digits 3× enlarged and padded to 28×28: x (28, 28, N) in 0..1, y (10, N)."""
    images, labels = read_digits()
    images = np.pad(np.kron(images / 16, np.ones((3, 3))), ((0, 0), (2, 2), (2, 2)))
    return images.transpose(1, 2, 0), np.eye(10)[labels].T


def net_by_autograd(torch, net, x, y):
    """∂L/∂k of the first convolution and ∂L/∂ffW of LAYERS, by PyTorch."""
    first, second, ffW = leaves = [
        torch.tensor(np.array(a), requires_grad=True)
        for a in (net.layers[1].k, net.layers[3].k, net.ffW)
    ]
    a = torch.tensor(x).permute(2, 0, 1)[:, None]
    for k, b in ((first, net.layers[1].b), (second, net.layers[3].b)):
        weight = k.transpose(0, 1).flip(2, 3)  # k[i][j] is convolved truly, conv2d correlates
        z = torch.nn.functional.conv2d(a, weight, torch.tensor(b))
        a = torch.nn.functional.avg_pool2d(torch.sigmoid(z), 2)
    fv = a.permute(1, 3, 2, 0).flatten(0, 2)  # each map column by column
    e = torch.sigmoid(ffW @ fv + torch.tensor(net.ffb)) - torch.tensor(y)
    grads = torch.autograd.grad((e**2).sum() / 2 / y.shape[1], leaves)
    return grads[0], grads[2]


def gradients(report, net, x, y):
    """cnnbp beside differences, in a small net, and beside PyTorch in the net that will learn."""
    small = cnnsetup(SMALL, x, y, rng=1)
    cnnnumgradcheck(cnnbp(cnnff(small, x), y), x, y)
    report.say(
        "cnnnumgradcheck: every gradient of a small net is within 1e-8 of differences",
        "cnnnumgradcheck：小网络的每个梯度与差分之差都不超过 1e-8",
    )
    net = cnnbp(cnnff(net, x), y)
    report.agrees("layers[1].dk", net.layers[1].dk, lambda t: net_by_autograd(t, net, x, y)[0])
    report.agrees("dffW", net.dffW, lambda t: net_by_autograd(t, net, x, y)[1])


def toolbox(report, epochs, seed):
    """1,000 digits to learn from, 300 others to judge by."""
    x, y = digits()
    generator = np.random.default_rng(seed)
    order = generator.permutation(x.shape[2])
    train, others = order[:1000], order[1000:1300]
    x_train, y_train = x[:, :, train], y[:, train]
    net = cnnsetup(LAYERS, x_train, y_train, rng=generator)
    report.title("The toolbox's CNN learns digits", "工具箱的 CNN 学习手写数字")
    gradients(report, net, x_train[:, :, :10], y_train[:, :10])

    def judge(epoch=0):
        error = f"{cnntest(net, x[:, :, others], y[:, others])[0]:6.1%}"
        if not epoch:
            report.say(f"before training: error {error}", f"训练之前：错误率 {error}")
            return
        loss = f"{net.rL[-1]:.4f}"
        report.say(
            f"epoch {epoch:2}: error {error}, smoothed loss rL {loss}",
            f"第 {epoch:2} 轮：错误率 {error}，平滑损失 rL {loss}",
        )

    judge()
    opts = {"alpha": 1, "batchsize": 10, "numepochs": epochs}
    cnntrain(net, x_train, y_train, opts, rng=generator, after_epoch=judge)


def main():
    parser = arguments(__doc__)
    parser.add_argument("--epochs", type=int, default=12, help="epochs / 训练轮数 (default: 12)")
    parser.add_argument("--seed", type=int, default=0, help="seed / 随机种子 (default: 0)")
    options = parser.parse_args()
    if options.epochs < 1:
        parser.error("--epochs must be 1 or more / 必须至少为 1")
    report = Report(options.lang)
    one_window(report)
    larger_maps(report)
    toolbox(report, options.epochs, options.seed)


if __name__ == "__main__":
    main()
