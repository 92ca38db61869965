"""convgrad without llvmlite: reference algorithms, one warning, and a sentence that says why."""

from child_processes import output

ABSENT = """
import sys
import warnings
sys.modules["llvmlite"] = None
warnings.simplefilter("always")
caught = []
warnings.showwarning = lambda message, kind, *_: caught.append((kind.__name__, str(message)))

import numpy as np
import convgrad as cg
rng = np.random.default_rng(1)
x = rng.integers(-3, 4, (2, 3, 9, 9)).astype("float32")
w = rng.integers(-3, 4, (4, 3, 3, 3)).astype("float32")
"""
BROKEN = ABSENT.replace(
    'sys.modules["llvmlite"] = None',
    """
import ctypes
class Library(ctypes.CDLL):
    def __init__(self, name, *rest, **named):
        if "llvmlite" in str(name):
            raise OSError("wrong ELF class")
        super().__init__(name, *rest, **named)
ctypes.CDLL = Library
""",
)


def test_import_does_not_load_llvm():
    text = """
    import sys
    import convgrad
    convgrad.set_num_threads(2)
    print([name for name in sys.modules if name.startswith("llvmlite")], end="")
    """
    assert output(text, before="") == "[]"


def test_the_maps_are_computed_and_one_warning_says_how():
    text = """
    print(caught)
    y = cg.conv(x, w, padding=1)
    dx = cg.input_grad(x.shape, w, y, padding=1)
    dw = cg.weight_grad(x, w.shape, y, padding=1)
    both = cg.backward(x, w, y, padding=1)
    cg.conv(x.astype("complex64"), w.astype("complex64"), stride=2)
    cg.conv(x.astype("float16"), w.astype("float16"))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    cells = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
    print((y == np.einsum("nchwkl,ockl->nohw", cells, w)).all())
    print((dw == np.einsum("nchwkl,nohw->ockl", cells, y)).all())
    spread = np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)))
    cells = np.lib.stride_tricks.sliding_window_view(spread, (3, 3), (2, 3))
    print((dx == np.einsum("nohwkl,ockl->nchw", cells, w[:, :, ::-1, ::-1])).all())
    print((both.dx == dx).all() and (both.dw == dw).all())
    print(len(caught), *caught[0])
    """
    *lines, last = output(text, ABSENT).splitlines()
    assert lines == ["[]", "True", "True", "True", "True"]
    assert last.startswith("1 RuntimeWarning convgrad: llvmlite cannot be loaded (")
    assert "so the slower reference algorithms run instead of generated kernels" in last


def test_asked_for_by_name_it_says_why_it_cannot():
    text = """
    try:
        cg.conv(x, w, algorithm="implicit_gemm")
    except cg.AlgorithmError as error:
        print(error)
    """
    sentence = output(text, ABSENT)
    assert sentence.startswith(
        "conv: forward: implicit_gemm declines this: llvmlite cannot be loaded ("
    )
    assert "these accept it: im2col" in sentence


def test_a_library_that_does_not_load_is_as_none():
    text = """
    y = cg.conv(x, w)
    cells = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    print((y == np.einsum("nchwkl,ockl->nohw", cells, w)).all())
    print(len(caught), *caught[0])
    """
    right, warning = output(text, BROKEN).splitlines()
    assert right == "True"
    assert warning.startswith(
        "1 RuntimeWarning convgrad: llvmlite cannot be loaded (Could not find"
    )


def test_another_processor_has_reference_algorithms():
    text = """
    import llvmlite.binding as llvm
    llvm.get_process_triple = lambda: "riscv64-unknown-linux-gnu"
    cg.conv(x, w)
    print(len(caught), caught[0][1])
    """
    before = ABSENT.replace('sys.modules["llvmlite"] = None\n', "")
    sentence = "1 convgrad: its kernels are for x86-64 and 64-bit Arm, not riscv64, so the slower"
    assert output(text, before).startswith(sentence)
