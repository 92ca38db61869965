"""im2col, GEMM and col2im: PyTorch 0.4's convolution and its gradients, product by product.

A 3×9×9 image and ten 3×3 kernels: K = 3·3·3 = 27 rows of the columns, P output pixels.

    output = bias · onesᵀ + weight · columns         columns (K, P) = im2col(input)
    gradColumns = weightᵀ · gradOutput               gradInput = col2im(gradColumns)
    gradWeight += scale · gradOutput · columnsᵀ      gradBias += scale · gradOutput · ones

Shown: the columns with stride 3, where patches do not overlap, and with 2 and 1, where they do;
every product with the sizes that BLAS is given; a network's forward and backward call by call, and
where each gradOutput comes from; and the update rule W −= αΣδ∗rot180(a).

    python examples/im2col_gemm.py
"""

import numpy as np
from report import Report, arguments

import convgrad as cg
from convgrad.contracts import thnn
from convgrad.contracts.blas import gemm, gemv

PLANES, SIZE, KERNEL, OUT_PLANES = 3, 9, 3, 10
STRIDES = (3, 2, 1)
WINDOW = (KERNEL, KERNEL, 1, 1, 0, 0)  # kW, kH, dW, dH, padW, padH


def show_columns(report, stride):
    """im2col copies a cell into each patch over it; col2im adds the copies up."""
    image = np.arange(PLANES * SIZE * SIZE).reshape(PLANES, SIZE, SIZE)
    window = (KERNEL, KERNEL, 0, 0, stride, stride)
    columns = thnn.im2col(image, *window)
    report.show(report.pick(f"stride {stride}: columns", f"步幅 {stride}：columns"), columns.shape)
    if stride == KERNEL:
        first = report.pick("column 0, the top left patch", "第 0 列，即左上角的图像块")
        report.show(first, columns[:, 0])
    copies = thnn.col2im(np.ones_like(columns), PLANES, SIZE, SIZE, *window)
    report.show(report.pick("copies of each cell of plane 0", "通道 0 各元素的份数"), copies[0])
    assert (thnn.col2im(columns, PLANES, SIZE, SIZE, *window) == copies * image).all()


def show_products(report, stride):
    """Every product behind the three functions, called as they call it."""
    report.title(f"The products, stride {stride}", f"全部矩阵乘法，步幅 {stride}")
    rng = np.random.default_rng(0)
    out = (SIZE - KERNEL) // stride + 1
    shapes = (PLANES, SIZE, SIZE), (OUT_PLANES, PLANES, KERNEL, KERNEL), (OUT_PLANES,)
    x, w, b = (rng.integers(-2, 3, shape).astype(float) for shape in shapes)
    dy = rng.integers(-2, 3, (OUT_PLANES, out, out)).astype(float)

    columns = thnn.im2col(x, KERNEL, KERNEL, stride_h=stride, stride_w=stride)
    (rows, pixels), planes = columns.shape, OUT_PLANES
    y, dcolumns = np.empty((planes, pixels)), np.empty((rows, pixels))
    dw, db, ones = np.zeros((planes, rows)), np.zeros(planes), np.ones(pixels)
    # name, trans, (m, n, k), (a, lda), (b, ldb), beta, (c, ldc)
    products = (
        ("output = bias · onesᵀ", "tn", (pixels, planes, 1),
         (ones, 1), (b, 1), 0, (y, pixels)),
        ("output += weight · columns", "nn", (pixels, planes, rows),
         (columns, pixels), (w, rows), 1, (y, pixels)),
        ("gradColumns = weightᵀ · gradOutput", "nt", (pixels, rows, planes),
         (dy, pixels), (w, rows), 0, (dcolumns, pixels)),
        ("gradWeight += gradOutput · columnsᵀ", "tn", (rows, planes, pixels),
         (columns, pixels), (dy, pixels), 1, (dw, rows)),
    )  # fmt: skip
    print(f"{'':36}{'':5}{'m':>4}{'n':>4}{'k':>4}{'lda':>5}{'ldb':>5}{'ldc':>5}   C")
    for name, trans, sizes, (first, lda), (second, ldb), beta, (c, ldc) in products:
        gemm(*trans, *sizes, 1, first, lda, second, ldb, beta, c, ldc)
        numbers = "".join(f"{n:4}" for n in sizes) + "".join(f"{n:5}" for n in (lda, ldb, ldc))
        print(f"{name:36}{trans:>5}{numbers}   {c.shape}")
    gemv("t", pixels, planes, 1, dy, pixels, ones, 1, 1, db, 1)
    print(
        f"gradBias += gradOutput · ones (gemv)    t{pixels:4}{planes:4}{pixels:9}{db.shape!s:>18}"
    )

    window = (KERNEL, KERNEL, stride, stride, 0, 0)
    grads = np.zeros(w.shape), np.zeros(planes)
    thnn.acc_grad_parameters(x, dy, *grads, None, None, *window)
    output = thnn.update_output(x, None, w, b, None, None, *window)
    dx = thnn.update_grad_input(x, dy, None, w, None, None, *window)
    assert (output.reshape(y.shape) == y).all()
    assert (grads[0].reshape(dw.shape) == dw).all()
    results = {"output": output, "gradInput": dx, "gradWeight": grads[0], "gradBias": db}
    for i, (name, one) in enumerate(results.items()):
        report.agrees(name, one, lambda torch, i=i: by_torch(torch, x, w, b, dy, stride)[i])
    if stride == KERNEL:
        show_grad_columns(report, dcolumns, columns, w, dy)


def by_torch(torch, x, w, b, dy, stride):
    """y, dx, dw, db by autograd."""
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    y = torch.nn.functional.conv2d(*leaves, stride=stride)
    return y.detach(), *torch.autograd.grad(y, leaves, torch.tensor(dy))


def show_grad_columns(report, dcolumns, columns, w, dy):
    """gradColumns beside the gradient that autograd finds for the columns."""

    def by_autograd(torch):
        leaf = torch.tensor(columns, requires_grad=True)
        y = torch.tensor(w.reshape(len(w), -1)) @ leaf
        return torch.autograd.grad(y, leaf, torch.tensor(dy.reshape(y.shape)))[0]

    report.say(
        f"gradColumns {dcolumns.shape} is no gradient of the weight: it is the gradient of the "
        "columns, which is the input's before col2im adds up the copies.",
        f"gradColumns {dcolumns.shape} 不是权重的梯度，而是 columns 的梯度，"
        "也就是 col2im 把各份相加之前的输入梯度。",
    )
    report.agrees("gradColumns", dcolumns, by_autograd)


class Trace:
    """Calls the functions of a layer, and prints each call with a running number."""

    def __init__(self, report):
        self.report, self.count = report, 0

    def line(self, function, layer, sizes):
        self.count += 1
        start = f"{self.count:2}  {function:20}{layer}"
        self.report.say(f"{start}: {sizes}", f"{start}：{sizes}")

    def forward(self, layer, x, w, b):
        y = thnn.update_output(x, None, w, b, None, None, *WINDOW)
        self.line("update_output", layer, f"input {x.shape} → output {y.shape}")
        return y

    def input_grad(self, layer, x, w, dy, source):
        dx = thnn.update_grad_input(x, dy, None, w, None, None, *WINDOW)
        sizes = f"gradOutput {dy.shape} = {source} → gradInput {dx.shape}"
        self.line("update_grad_input", layer, sizes)
        return dx

    def parameter_grads(self, layer, x, w, dy):
        dw, db = np.zeros_like(w), np.zeros(len(w))
        thnn.acc_grad_parameters(x, dy, dw, db, None, None, *WINDOW)
        sizes = f"gradOutput {dy.shape} → gradWeight {dw.shape}"
        self.line("acc_grad_parameters", layer, sizes)
        return dw


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def show_network(report):
    """conv1, σ, conv2, σ, mean pooling, dense, σ; L = ½‖a3 − t‖²; the error terms are δ = dL/dz."""
    report.title("Who supplies gradOutput", "gradOutput 由谁提供")
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal((1, 10, 10)), rng.random((4, 1, 1))
    shapes = (2, 1, 3, 3), (2,), (3, 2, 3, 3), (3,), (4, 3, 3, 3), (4,)
    w1, b1, w2, b2, w3, b3 = parameters = [rng.standard_normal(s) / 3 for s in shapes]
    trace = Trace(report)
    a1 = sigmoid(trace.forward("conv1", x, w1, b1))
    a2 = sigmoid(trace.forward("conv2", a1, w2, b2))
    pooled = a2.reshape(3, 3, 2, 3, 2).mean(axis=(2, 4))
    a3 = sigmoid(trace.forward("dense", pooled, w3, b3))

    d3 = (a3 - t) * a3 * (1 - a3)
    dpooled = trace.input_grad("dense", pooled, w3, d3, "(a3 − t) ⊙ σ'(z3)")
    dw3 = trace.parameter_grads("dense", pooled, w3, d3)
    d2 = dpooled.repeat(2, axis=1).repeat(2, axis=2) / 4 * a2 * (1 - a2)
    da1 = trace.input_grad("conv2", a1, w2, d2, "expand(gradInput)/4 ⊙ σ'(z2)")
    dw2 = trace.parameter_grads("conv2", a1, w2, d2)
    d1 = da1 * a1 * (1 - a1)
    dw1 = trace.parameter_grads("conv1", x, w1, d1)
    report.say(
        "gradOutput is dL/dz of the layer's own output, and it has its numbers when it comes: the "
        "layers behind have made it. The σ' between two layers belongs to the sigmoid's backward.",
        "gradOutput 是损失对本层自身输出 z 的导数，传入时就已有值：由后面各层算出。"
        "两层之间的 σ' 属于 sigmoid 自己的反向传播。",
    )
    report.show("δ3", d3.ravel())
    found = {"δ1": d1, "δ2": d2, "δ3": d3, "dW1": dw1, "dW2": dw2, "dW3": dw3}
    for i, (name, one) in enumerate(found.items()):
        report.agrees(name, one, lambda torch, i=i: network_by_torch(torch, x, t, parameters)[i])

    correlated = cg.conv(d2, np.rot90(w2, 2, (2, 3)).swapaxes(0, 1), padding=2)
    assert np.allclose(da1, correlated, rtol=0, atol=1e-14)
    report.say("gradInput of conv2 is the full correlation of δ2 with rot180(W2).",
               "conv2 的 gradInput 等于 δ2 与 rot180(W2) 的 full 互相关。")  # fmt: skip
    flat, pixels = w3.reshape(4, 27), pooled.ravel()
    assert np.allclose(a3.ravel(), sigmoid(flat @ pixels + b3), rtol=0, atol=1e-14)
    report.say(
        "The dense layer is the same product: m, n, k are 1, 4, 27 (pixels, outputs, inputs).",
        "全连接层是同一个矩阵乘法：m, n, k 为 1, 4, 27（像素、输出、输入）。",
    )


def network_by_torch(torch, x, t, parameters):
    """δ1, δ2, δ3, dW1, dW2, dW3 by autograd."""
    w1, b1, w2, b2, w3, b3 = (torch.tensor(p, requires_grad=True) for p in parameters)
    F = torch.nn.functional
    z1 = F.conv2d(torch.tensor(x), w1, b1)
    z2 = F.conv2d(z1.sigmoid(), w2, b2)
    z3 = F.conv2d(F.avg_pool2d(z2.sigmoid(), 2), w3, b3)
    loss = ((z3.sigmoid() - torch.tensor(t)) ** 2).sum() / 2
    return torch.autograd.grad(loss, (z1, z2, z3, w1, w2, w3))


def show_update_rule(report):
    """Σ_i δ_i ∗ rot180(a_i), ∗ a true convolution (it turns its second operand): flip=True here."""
    report.title("The update rule W −= αΣδ∗rot180(a)", "更新公式 W −= αΣδ∗rot180(a)")
    rng = np.random.default_rng(2)
    a, delta = (rng.integers(-3, 4, (2, 1, n, n)).astype(float) for n in (5, 3))
    w, dw = rng.integers(-3, 4, (1, 1, 3, 3)) * 1.0, np.zeros((1, 1, 3, 3))
    thnn.acc_grad_parameters(a, delta, dw, None, None, None, *WINDOW)
    pairs = [(a[i : i + 1], delta[i : i + 1]) for i in range(2)]
    rule = sum(cg.conv(np.rot90(x, 2, (2, 3)), d, flip=True) for x, d in pairs)
    report.show("gradWeight", dw[0, 0])
    report.show("Σ δ∗rot180(a)", rule[0, 0])
    assert (dw == sum(cg.conv(x, d) for x, d in pairs)).all()
    assert (dw == np.rot90(rule, 2, (2, 3))).all()
    assert (rule == cg.weight_grad(a, w.shape, delta, flip=True)).all()
    report.say(
        "gradWeight is the correlation of a with δ. With ∗ as true convolution the rule gives it "
        "turned by 180°: right where the forward is a true convolution too, as in MATLAB's convn.",
        "gradWeight 是 a 与 δ 的互相关。∗ 取真卷积时，公式给出的是它旋转 180° 的结果："
        "正向传播也是真卷积（如 MATLAB 的 convn）时才正好成立。",
    )
    stepped, alpha = w.copy(), 0.5
    thnn.acc_grad_parameters(a, delta, stepped, None, None, None, *WINDOW, scale=-alpha)
    assert (stepped == w - alpha * dw).all()
    report.say(
        "With scale = −α and the weight as buffer it is the step itself. Autograd calls it with "
        "scale = 1; α is the optimizer's.",
        "取 scale = −α 并以权重本身为缓冲区，一次调用就是一步更新。autograd 调用时 scale = 1，"
        "α 属于优化器。",
    )


def main():
    report = Report(arguments(__doc__).parse_args().lang)
    report.title("im2col and col2im", "im2col 与 col2im")
    for stride in STRIDES:
        show_columns(report, stride)
    report.say(
        "col2im(im2col(x)) is x times these counts. Where the stride is the kernel's size they are "
        "all one, and it cannot be seen that col2im adds up.",
        "col2im(im2col(x)) 等于 x 乘以这些份数。步幅等于卷积核大小时份数全为一，"
        "看不出 col2im 在求和。",
    )
    for stride in STRIDES:
        show_products(report, stride)
    show_network(report)
    show_update_rule(report)


if __name__ == "__main__":
    main()
