"""ONNX as a judge: every Conv and ConvTranspose case that the package `onnx` carries.

The node cases are ONNX's specification in numbers; the others are single-layer models that were
exported from PyTorch, with PyTorch's answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import convgrad as cg

onnx = pytest.importorskip("onnx")

OPS = ("Conv", "ConvTranspose")
NODE_CASES = {
    "test_basic_conv_with_padding",
    "test_basic_conv_without_padding",
    "test_conv_with_autopad_same",
    "test_conv_with_strides_and_asymmetric_padding",
    "test_conv_with_strides_no_padding",
    "test_conv_with_strides_padding",
    "test_convtranspose",
    "test_convtranspose_1d",
    "test_convtranspose_3d",
    "test_convtranspose_autopad_same",
    "test_convtranspose_dilations",
    "test_convtranspose_group_2",
    "test_convtranspose_group_2_image_3",
    "test_convtranspose_kernel_shape",
    "test_convtranspose_output_shape",
    "test_convtranspose_pad",
    "test_convtranspose_pads",
}
EXPORTED_CASES = {
    "test_Conv1d", "test_Conv1d_dilated", "test_Conv1d_groups", "test_Conv1d_pad1",
    "test_Conv1d_pad1size1", "test_Conv1d_pad2", "test_Conv1d_pad2size1", "test_Conv1d_stride",
    "test_Conv2d", "test_Conv2d_depthwise", "test_Conv2d_depthwise_padded",
    "test_Conv2d_depthwise_strided", "test_Conv2d_depthwise_with_multiplier",
    "test_Conv2d_dilated", "test_Conv2d_groups", "test_Conv2d_groups_thnn", "test_Conv2d_no_bias",
    "test_Conv2d_padding", "test_Conv2d_strided", "test_Conv3d", "test_Conv3d_dilated",
    "test_Conv3d_dilated_strided", "test_Conv3d_groups", "test_Conv3d_no_bias",
    "test_Conv3d_stride", "test_Conv3d_stride_padding", "test_ConvTranspose2d",
    "test_ConvTranspose2d_no_bias", "test_operator_conv", "test_operator_convtranspose",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One node with its operands and the answer that ONNX gives."""

    name: str
    node: Any
    operands: tuple[np.ndarray, ...]
    answer: np.ndarray


def node_cases() -> Iterator[Case]:
    """The cases of ONNX's own definition files for the two operators."""
    from onnx.backend.test.case import node
    from onnx.backend.test.case.node import conv, convtranspose

    operators = (conv.Conv.__name__, convtranspose.ConvTranspose.__name__)
    for case in node._NodeTestCases:  # filled when the two files are imported
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in operators:
            for inputs, outputs in case.data_sets:
                yield Case(case.name, nodes[0], tuple(inputs), outputs[0])


def exported_cases() -> Iterator[Case]:
    """The single-layer models in the package's data, of PyTorch's making."""
    data = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for path in sorted(data.glob("pytorch-*/*/model.onnx")):
        graph = onnx.load(path).graph
        if {n.op_type for n in graph.node} & set(OPS):
            (node,) = graph.node
            yield exported_case(path.parent, node, graph.initializer)


def exported_case(folder: Path, node: Any, initializers: Any) -> Case:
    numbers = {t.name: onnx.numpy_helper.to_array(t) for t in initializers}
    absent = [name for name in node.input if name not in numbers]
    read = [tensor(folder / "test_data_set_0" / f"input_{i}.pb") for i in range(len(absent))]
    numbers.update(zip(absent, read, strict=True))
    answer = tensor(folder / "test_data_set_0" / "output_0.pb")
    return Case(folder.name, node, tuple(numbers[name] for name in node.input), answer)


def tensor(path: Path) -> np.ndarray:
    proto = onnx.TensorProto()
    proto.ParseFromString(path.read_bytes())
    return onnx.numpy_helper.to_array(proto)


def run(node: Any, operands: tuple[np.ndarray, ...], **how: Any) -> np.ndarray:
    """The node by convgrad: ONNX's attributes in convgrad's words."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    kernel = operands[1].shape[2:]
    assert tuple(given.pop("kernel_shape", kernel)) == kernel
    settings: dict[str, Any] = {
        "stride": tuple(given.pop("strides", (1,) * len(kernel))),
        "dilation": tuple(given.pop("dilations", (1,) * len(kernel))),
        "groups": given.pop("group", 1),
    }
    pads = given.pop("pads", [0] * 2 * len(kernel))
    settings["padding"] = list(zip(pads[: len(kernel)], pads[len(kernel) :], strict=True))
    auto_pad = given.pop("auto_pad", b"NOTSET").decode()
    if auto_pad != "NOTSET":
        names = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}
        settings["padding"] = names[auto_pad]
    if node.op_type == "Conv":
        assert not given, f"unknown attributes {sorted(given)}"
        return cg.conv(*operands, **settings, **how)
    settings["output_padding"] = tuple(given.pop("output_padding", (0,) * len(kernel)))
    if "output_shape" in given:
        settings |= fitted(operands[0].shape[2:], kernel, settings, given.pop("output_shape"))
    assert not given, f"unknown attributes {sorted(given)}"
    return cg.conv_transpose(*operands, **settings, **how)


def fitted(
    size: tuple[int, ...], kernel: tuple[int, ...], settings: dict[str, Any], wanted: list[int]
) -> dict[str, Any]:
    """ONNX's rule for output_shape: total = s·(in−1) + extra + d·(K−1) + 1 − wanted.

    The larger half of it comes in front; below zero it is padding of the output.
    """
    rows = zip(
        size, kernel, settings["stride"], settings["dilation"], settings["output_padding"], wanted
    )
    totals = [s * (n - 1) + extra + d * (k - 1) + 1 - out for n, k, s, d, extra, out in rows]
    return {
        "padding": [(t - t // 2, t // 2) if t > 0 else (0, 0) for t in totals],
        "output_padding": tuple(
            extra + max(0, -t) for extra, t in zip(settings["output_padding"], totals)
        ),
    }


NODES = list(node_cases())
EXPORTED = list(exported_cases())


def test_no_case_is_lost() -> None:
    assert {case.name for case in NODES} >= NODE_CASES
    assert {case.name for case in EXPORTED} >= EXPORTED_CASES
    assert {case.node.op_type for case in NODES} == {case.node.op_type for case in EXPORTED}


@pytest.mark.parametrize("case", NODES, ids=lambda case: case.name)
def test_node_case(case: Case) -> None:
    y = run(case.node, case.operands)
    assert (y.dtype, y.shape) == (case.answer.dtype, case.answer.shape)
    np.testing.assert_allclose(y, case.answer, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["direct", "im2col", "rot180"])
@pytest.mark.parametrize("case", NODES, ids=lambda case: case.name)
def test_node_case_with_each_plain_algorithm(case: Case, algorithm: str) -> None:
    y = run(case.node, case.operands, algorithm=algorithm)
    assert np.array_equal(y, case.answer)  # sums of small whole numbers are exact


@pytest.mark.parametrize("case", EXPORTED, ids=lambda case: case.name)
def test_model_exported_from_pytorch(case: Case) -> None:
    y = run(case.node, case.operands)
    assert (y.dtype, y.shape) == (case.answer.dtype, case.answer.shape)
    np.testing.assert_allclose(y, case.answer, rtol=1e-5, atol=1e-6)
