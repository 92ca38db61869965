"""Large results: the memory of those that are gone serves the next ones, and no others."""

import gc
import os
import threading

import numpy as np
import pytest

import convgrad as cg
from convgrad import memory

SIZE = 5 << 20


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 1 << 20)
    monkeypatch.setattr(memory, "_kept", type(memory._kept)())


def _address(array):
    return array.__array_interface__["data"][0]


def _empty(size):
    return memory.empty((size,), np.dtype(np.uint8))


def test_the_memory_of_a_result_that_is_gone_is_used_again():
    first = _empty(SIZE)
    place = _address(first)
    del first
    assert _address(_empty(SIZE)) == place
    assert _address(_empty(SIZE - 4096)) == place
    assert _address(_empty(SIZE // 2)) != place


def test_results_that_live_have_memory_of_their_own():
    arrays = [_empty(SIZE) for _ in range(4)]
    for number, array in enumerate(arrays):
        array[:] = number
    view = arrays.pop(0)[7:9]
    gc.collect()
    again = _empty(SIZE)
    again[:] = 9
    assert view.tolist() == [0, 0]
    assert all((a == i + 1).all() for i, a in enumerate(arrays))


def test_no_more_is_kept_than_allowed(monkeypatch):
    monkeypatch.setenv("CONVGRAD_KEEP_MB", "13")
    arrays = [_empty(SIZE) for _ in range(4)]
    del arrays
    assert sum(map(len, memory._kept)) == 2 * 6 << 20
    monkeypatch.setenv("CONVGRAD_KEEP_MB", "0")
    assert _empty(SIZE).base is None


@pytest.mark.parametrize("text", ["much", "-1", "1.5"])
def test_a_limit_that_is_no_number_is_refused_in_a_sentence(monkeypatch, text):
    monkeypatch.setenv("CONVGRAD_KEEP_MB", text)
    with pytest.raises(cg.SettingError, match=r"CONVGRAD_KEEP_MB is .*whole number of megabytes"):
        _empty(SIZE)


def test_results_are_right_in_used_memory():
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = rng.integers(-9, 9, (2, 3, 300, 300)).astype(np.float32)
        w = rng.integers(-9, 9, (4, 3, 3, 3)).astype(np.float32)
        y = cg.conv(x, w, padding=1)
        assert _address(y) % 64 == 0
        assert y.flags.c_contiguous
        assert y.flags.writeable
        dx = cg.input_grad(x.shape, w, y, padding=1)
        assert np.vdot(y.astype(np.float64), y) == np.vdot(x.astype(np.float64), dx)
        last = y.copy(), cg.conv(x, w, padding=1, algorithm="direct")
        np.testing.assert_array_equal(*last)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_has_memory_of_its_own():
    array = _empty(SIZE)
    array[:] = 1
    kept = _empty(SIZE)
    place = _address(kept)
    del kept
    child = os.fork()
    if child == 0:
        array[:] = 2
        again = _empty(SIZE)
        again[:] = 3
        os._exit(0 if _address(again) == place else 1)
    assert os.waitpid(child, 0)[1] == 0
    again = _empty(SIZE)
    assert _address(again) == place
    assert (array == 1).all()
    assert not (again == 3).any()


def test_threads_do_not_share_blocks():
    wrong = []

    def work(number):
        for _ in range(100):
            array = _empty(SIZE)
            array[::4096] = number
            if not (array[::4096] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
