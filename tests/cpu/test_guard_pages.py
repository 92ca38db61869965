"""No access outside the arrays: each is laid against memory that kills who touches it."""

import os

import pytest
from engine_cases import child, levels

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pages are guarded with mprotect")


@pytest.mark.parametrize("side", ["START", "END"])
def test_the_guard_kills_who_goes_too_far(side):
    done = child("guarded_memory.py", "touch", side)
    assert "about to touch" in done.stdout
    assert done.returncode < 0, done.stderr


@pytest.mark.parametrize(("level", "count"), [("", 400), *((level, 40) for level in levels()[1:])])
def test_no_geometry_is_read_or_written_outside_its_arrays(level, count, tmp_path):
    log = tmp_path / "case.txt"
    done = child("guarded_memory.py", "run", str(log), str(count), CONVGRAD_ISA=level)
    last = log.read_text().strip() if log.exists() else "nothing"
    assert done.returncode == 0, f"while it ran {last}:\n{done.stderr[-3000:]}"
    ran, *kernels = done.stdout.split()
    assert int(ran) >= 8 * count
    assert kernels == ["multiply", "outer", "pack_weights", "weave"]
