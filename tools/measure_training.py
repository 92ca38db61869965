"""The accuracies and times in docs/training.md: python tools/measure_training.py [OPTIONS].

Runs `convgrad train` with seeds 0 to 4 and prints one row of the table: mean, least and most.
"""

import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SEEDS = range(5)


def trained(options: list[str], seed: int) -> tuple[float, float]:
    """Test accuracy in per cent and training seconds of one run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "convgrad", "train", *options, "--seed", str(seed)]
        done = subprocess.run(
            [*command, "--out", str(Path(folder) / "run")],
            capture_output=True,
            encoding="utf-8",
            check=True,
        )
    accuracy = re.search(r"test accuracy: ([\d.]+) %", done.stdout)
    seconds = re.search(r"trained in ([\d.]+) s", done.stdout)
    assert accuracy is not None
    assert seconds is not None
    return float(accuracy[1]), float(seconds[1])


def main() -> None:
    options = sys.argv[1:]
    runs = [trained(options, seed) for seed in SEEDS]
    accuracies, seconds = zip(*runs, strict=True)
    print(f"convgrad train {' '.join(options)}".rstrip())
    print(
        f"  accuracy mean {statistics.mean(accuracies):.2f} %, "
        f"least {min(accuracies):.1f} %, most {max(accuracies):.1f} %"
    )
    print(f"  seconds median {statistics.median(seconds):.1f}, most {max(seconds):.1f}")
    print(f"  {platform.machine()}, {platform.system()}, Python {platform.python_version()}")


if __name__ == "__main__":
    main()
