"""The test suite in two passes, and one account of both.

Tests marked `serial` measure time or use the whole machine: they run alone, in the second pass.
All others share the processors, one process for each, with one BLAS thread per process.
"""

import json
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

TOOLS = Path(__file__).resolve().parent
THREADS = (
    "CONVGRAD_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)  # fmt: skip
MOST_WORKERS = 8
Skip = dict[str, str]  # id, kind, reason, allowed: as tools/account.py writes it
ORDER = ("failed", "passed", "skipped", "xfailed", "xpassed", "warnings", "errors")


@dataclass(frozen=True)
class Outcome:
    """What one pass of pytest came to: its exit status, its counts, and each skip."""

    status: int
    counts: Counter[str]
    skips: list[Skip]


def run_suite(python: Path, *, peers: bool, skips_allowed: bool, also: Sequence[str] = ()) -> bool:
    """Run both passes with `python`; True if all is well.  `also` names checks that failed."""
    started = time.monotonic()
    workers = min(os.cpu_count() or 1, MOST_WORKERS)
    shared = ("-m", "not serial", "-n", str(workers), "--dist", "loadfile")
    passes = [_pytest(python, peers, dict.fromkeys(THREADS, "1"), *shared)]
    passes.append(_pytest(python, peers, {}, "-m", "serial"))
    # A test file that is skipped as a whole is met in both passes.
    skips = list({skip["id"]: skip for one in passes for skip in one.skips}.values())
    forbidden = [] if skips_allowed else [s for s in skips if s["allowed"] == "no"]
    _report(skips, forbidden, also)
    counts = sum((one.counts for one in passes), Counter())
    counts["skipped"] = len(skips)
    print(_closing_line(counts, time.monotonic() - started), flush=True)
    return all(one.status == 0 for one in passes) and not forbidden


def _pytest(python: Path, peers: bool, settings: dict[str, str], *selection: str) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        account = Path(folder) / "account.json"
        options = ["-p", "account", f"--account={account}", *([] if peers else ["--no-peers"])]
        path = os.pathsep.join(filter(None, [str(TOOLS), os.environ.get("PYTHONPATH")]))
        environ = {**os.environ, **settings, "PYTHONPATH": path}
        print(f"--- pytest {' '.join(selection)}", flush=True)
        line = [python, "-m", "pytest", *options, *selection]
        status = subprocess.run(line, env=environ, stdin=subprocess.DEVNULL, check=False).returncode
        if not account.exists():  # pytest stopped before it had anything to count
            return Outcome(status or 1, Counter(errors=1), [])
        found = json.loads(account.read_text(encoding="utf-8"))
    return Outcome(status, Counter(found["counts"]), found["skips"])


def _report(skips: list[Skip], forbidden: list[Skip], also: Sequence[str]) -> None:
    """Say what did not run and why, and what makes the whole a failure."""
    for (kind, reason), count in sorted(Counter((s["kind"], s["reason"]) for s in skips).items()):
        print(f"not run: {count} {kind}{'s' if count > 1 else ''}: {reason}")
    for skip in forbidden:
        print(f"FAILED: skipped, and not for want of a GPU: {skip['id']}: {skip['reason']}")
    for name in also:
        print(f"FAILED: {name} (see above)")


def _closing_line(counts: Counter[str], seconds: float) -> str:
    """Both passes in the form of pytest's last line."""
    parts = [f"{counts[key]} {key}" for key in ORDER if counts[key]] or ["no tests ran"]
    clock = f" ({timedelta(seconds=int(seconds))})" if seconds >= 60 else ""
    return f" {', '.join(parts)} in {seconds:.2f}s{clock} ".center(80, "=")
