"""A kernel that computes wrongly is found before its first use, named, and not used."""

import pytest
from child_processes import LAYER, output

from convgrad.cpu.jit import compiler

pytestmark = pytest.mark.skipif(compiler.unavailable() is not None, reason="no kernels here")

# Counts the self-tests; kernels of the generators named in BROKEN store zeros.
TELLING = """
import os, re, warnings
from convgrad.cpu import job
from convgrad.cpu import trial

told, tests, written = [], [], {}
warnings.simplefilter("always")
warnings.showwarning = lambda message, kind, *_: told.append((kind.__name__, str(message)))
BROKEN = os.environ.get("BROKEN", "").split()
write, is_right = job.Generator.text, trial._is_right

def text(self, element, shape):
    written[self.name] = True
    whole = write(self, element, shape)
    if self.name not in BROKEN:
        return whole
    whole = re.sub(r"store (float|double) %\\w+,", r"store \\1 0.0,", whole)
    vector = r"(<\\d+ x (?:float|double)>) %\\w+,"
    whole = re.sub("store " + vector, r"store \\1 zeroinitializer,", whole)
    masked = r"(@llvm.masked.store[^(]*\\()" + vector
    return re.sub(masked, r"\\1\\2 zeroinitializer,", whole)

def counted(*args):
    tests.append(args)
    return is_right(*args)

job.Generator.text, trial._is_right = text, counted
"""
# A layer that no other algorithm of the engine is chosen for.
MANY_CHANNELS = """
def layer(dtype="float32", batch=2, seed=1):
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, (batch, 70, 4, 5, 5)).astype(dtype)
    w = rng.integers(-3, 4, (70, 70, 2, 1, 1)).astype(dtype)
    return x, w
"""
BEFORE = LAYER + MANY_CHANNELS + TELLING


def kernels(tmp_path):
    """The names of the kernels that the layer's three maps ask for."""
    text = "maps(*layer()); print(*written)"
    return output(text, BEFORE, CONVGRAD_CACHE_DIR=str(tmp_path / "names")).split()


def test_each_kernel_that_computes_wrongly_is_named_and_not_used(tmp_path):
    text = """
    x, w = layer()
    plans = [cg.plan(d, x.shape, w.shape) for d in ("forward", "input_grad", "weight_grad")]
    print(right(x, w, "auto"), right(x, w, "auto"))
    (kind, message), = told
    print(kind, message)
    declined = [cg.plan(p.direction, x.shape, w.shape).declined for p in plans]
    print({d["implicit_gemm"] for d in declined})
    print(right(*layer(seed=2), "auto"), len(told))
    try:
        cg.conv(x, w, algorithm="implicit_gemm")
    except cg.AlgorithmError as error:
        print(error)
    """
    for name in kernels(tmp_path):
        folder = tmp_path / name
        lines = output(text, BEFORE, CONVGRAD_CACHE_DIR=str(folder), BROKEN=name).splitlines()
        assert lines[0] == "True True"
        assert lines[1].startswith("RuntimeWarning convgrad: implicit_gemm is not used for float:")
        assert f" {name} (float, " in lines[1]
        assert f" {name} (float, " in lines[2]
        assert lines[2].count("failed the self-test") == 1
        assert lines[3] == "True 1"
        assert "implicit_gemm declines this:" in lines[4]
        # What failed was not kept: the process that has no fault makes it anew, and uses it.
        text_after = "print(right(*layer()), len(tests) > 0, told)"
        assert output(text_after, BEFORE, CONVGRAD_CACHE_DIR=str(folder)) == "True True []\n"


def test_a_kernel_from_the_cache_has_passed(tmp_path):
    text = "print(right(*layer()), len(tests) > 0, told)"
    env = {"CONVGRAD_CACHE_DIR": str(tmp_path / "kernels")}
    assert output(text, BEFORE, **env) == "True True []\n"
    assert output(text, BEFORE, **env) == "True False []\n"


def test_no_kernel_is_compiled_for_a_test_alone(tmp_path):
    """What a map's program asks for is tested in a problem that uses it, and kept."""
    text = """
    from convgrad.cpu import program
    texts, text = [], job.Generator.text
    job.Generator.text = lambda *key: (texts.append(key), text(*key))[1]
    asked, kernels = set(), program.kernels
    def kernels_of_layers(keys):
        if trial._test.fresh is None:
            asked.update(keys)
        return kernels(keys)
    program.kernels = kernels_of_layers
    layers = (
        ((1, 64, 56, 56), (256, 64, 1, 1)), ((1, 96, 20, 20), (24, 96, 1, 1)),
        ((1, 64, 56, 56), (64, 64, 3, 3)), ((1, 256, 28, 28), (512, 256, 3, 3)),
        ((1, 3, 60, 60), (64, 3, 7, 7)), ((1, 32, 9, 9), (32, 1, 3, 3)),
    )
    for shape, w_shape in layers:
        for direction in ("forward", "input_grad", "weight_grad"):
            cg.plan(direction, shape, w_shape, groups=shape[1] // w_shape[1])
    print(len(asked), len(trial.trusted), len(texts), len(os.listdir(FOLDER)))
    """
    folder = str(tmp_path / "kernels")
    text = text.replace("FOLDER", repr(folder))
    asked, trusted, wrote, kept = map(int, output(text, BEFORE, CONVGRAD_CACHE_DIR=folder).split())
    pool = 1  # of the functions of `pool_code`, which have no self-test
    assert asked == trusted == wrote == kept - pool


@pytest.mark.parametrize(
    "settings",
    [
        {"x": (2, 4, 9, 8), "w": (6, 4, 3, 3), "layout": "channels_first"},
        {"x": (2, 9, 8, 4), "w": (6, 3, 3, 4), "layout": "channels_last"},
        {"x": (1, 8, 400), "w": (8, 1, 41), "groups": 8},
        {"x": (2, 4, 5, 6, 7), "w": (6, 2, 3, 1, 2), "stride": (2, 1, 3), "groups": 2},
        {"x": (3, 70, 40, 40), "w": (90, 70, 1, 1)},
    ],
    ids=str,
)
def test_every_kernel_in_use_was_tested(settings, tmp_path):
    """Whole operands, every second cell of them, and turned around ones, in all dtypes."""
    text = f"""
    settings = {settings!r}
    shape, w_shape = settings.pop("x"), settings.pop("w")
    passed, asked = set(), set()
    trust, kernels = trial._trust, trial.obtain
    trial._trust = lambda key, fresh: (passed.add(key), trust(key, fresh))
    def obtain(keys):
        found = kernels(keys)
        asked.update(keys)
        return found
    trial.obtain = obtain
    rng = np.random.default_rng(0)
    for dtype in ("float32", "float64", "float16", "complex64"):
        for index in (slice(None), slice(None, None, 2), slice(None, None, -1)):
            double = [2 * n if index.step == 2 else n for n in (*shape, *w_shape)]
            x, w = (
                rng.integers(-1, 2, s).astype(dtype)[(index,) * len(s)]
                for s in (double[:len(shape)], double[len(shape):])
            )
            named = settings | {{"algorithm": "implicit_gemm"}}
            y = cg.conv(x, w, **named)
            cg.backward(x, w, y, **named)
    print(passed == asked, len(passed) > 3, told)
    """
    got = output(text, BEFORE, CONVGRAD_CACHE_DIR=str(tmp_path / "kernels"))
    assert got == "True True []\n"


def test_a_failure_in_the_middle_of_a_call_is_no_wrong_number(tmp_path):
    """A kernel for strides that no plan knows of may be made by the call itself."""
    text = """
    from convgrad.algorithm import KernelFailed
    x, w = layer()
    want = cg.conv(x, w, algorithm="direct")
    plan = cg.plan("forward", x.shape, w.shape)
    algorithm = plan.map.choice.algorithm
    def fails(*_):
        trial._failed[algorithm.name, "float"] = "its kernel fails"
        raise KernelFailed("its kernel fails")
    object.__setattr__(algorithm, "forward", fails)
    out = np.ones_like(want)
    plan(x, w, out=out, scale=2.0, accumulate=True)
    after = cg.plan("forward", x.shape, w.shape)
    print((out == 2 * want + 1).all(), algorithm.name, after.declined[algorithm.name])
    """
    got = output(text, BEFORE, CONVGRAD_CACHE_DIR=str(tmp_path / "kernels"))
    assert got == "True implicit_gemm its kernel fails\n"


def test_a_wrong_kernel_of_spectra_is_found_before_anything_is_written(tmp_path):
    """Of a call that adds to `out`, whose results would otherwise be added a second time."""
    text = """
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        x = rng.integers(-3, 4, (1, channels, 200, 200)).astype("float64")
        w = rng.integers(-3, 4, (channels, channels, 41, 41)).astype("float64")
        want = cg.conv(x, w, algorithm="direct")
        out = np.ones_like(want)
        plan = cg.plan("forward", x.shape, w.shape, dtype="float64")
        plan(x, w, out=out, scale=2.0, accumulate=True)
        print(np.abs(out - 2 * want - 1).max() < 1e-6, plan.algorithm, len(told))
    """
    for name, channels in (("tile_spectra", 1), ("filter_tiles", 1), ("products", 3),
                           ("tile_results", 3)):  # fmt: skip
        env = {"CONVGRAD_CACHE_DIR": str(tmp_path / name), "BROKEN": name}
        lines = output(text, LAYER + TELLING, **env).splitlines()
        right, algorithm, count = lines[channels // 2].split()
        assert (right, count) == ("True", "1"), name
        assert algorithm != "overlap_save", name
