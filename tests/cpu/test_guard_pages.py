"""No access outside the arrays: each is laid against memory that kills who touches it."""

import os

import pytest
from engine_cases import child, levels

from convgrad.cpu.stencil.in_place import MASKING

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pages are guarded with mprotect")


@pytest.mark.parametrize("side", ["START", "END"])
def test_the_guard_kills_who_goes_too_far(side):
    done = child("guarded_memory.py", "touch", side)
    assert "about to touch" in done.stdout
    assert done.returncode < 0, done.stderr


@pytest.mark.parametrize(("level", "count"), [("", 400), *((level, 40) for level in levels()[1:])])
def test_no_geometry_is_read_or_written_outside_its_arrays(level, count, tmp_path):
    log = tmp_path / "case.txt"
    ran, kernels = guarded("implicit_gemm", level, count, log)
    assert ran >= 8 * count
    assert kernels == [
        "add_pieces", "multiply", "multiply_few", "narrow", "outer", "pack_cells", "pack_weights",
        "weave", "weave_few", "widen",
    ]  # fmt: skip


@pytest.mark.parametrize(("level", "count"), [("", 60), *((level, 10) for level in levels()[1:])])
def test_no_stencil_reads_or_writes_outside_its_arrays(level, count, tmp_path):
    ran, kernels = guarded("stencil", level, count, tmp_path / "case.txt")
    assert ran >= 8 * count
    used = level or levels()[0]
    masking = ["abreast", "abreast_weights", "planes"] if used in MASKING else []
    many = ["plane_sums"] if used == "avx512" else []  # registers
    always = ["add_pieces", "pack_stencil", "stencil", "stencil_weights"]
    assert kernels == sorted([*always, *masking, *many])


@pytest.mark.parametrize(("level", "count"), [("", 150), *((level, 20) for level in levels()[1:])])
def test_no_winograd_tile_reads_or_writes_outside_its_arrays(level, count, tmp_path):
    ran, kernels = guarded("winograd", level, count, tmp_path / "case.txt")
    assert ran >= 5 * count
    assert kernels == [
        "add_pieces", "transform_gradient", "transform_panels", "transform_source",
        "transform_weights", "winograd", "winograd_few", "winograd_outer",
    ]  # fmt: skip


@pytest.mark.parametrize(("level", "count"), [("", 60), *((level, 10) for level in levels()[1:])])
def test_no_tile_of_spectra_reads_or_writes_outside_its_arrays(level, count, tmp_path):
    ran, kernels = guarded("overlap_save", level, count, tmp_path / "case.txt")
    assert ran >= count
    assert kernels == ["filter_tiles", "products", "tile_results", "tile_spectra"]


def guarded(engine, level, count, log):
    """How many maps were run in a child without touching a guard, and by which kernels."""
    done = child("guarded_memory.py", engine, str(log), str(count), CONVGRAD_ISA=level)
    last = log.read_text().strip() if log.exists() else "nothing"
    assert done.returncode == 0, f"while it ran {last}:\n{done.stderr[-3000:]}"
    ran, *kernels = done.stdout.split()
    return int(ran), kernels
