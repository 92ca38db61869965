"""A pytest plugin for tools/dev.py: an account of what ran, and a suite without its peers.

--account FILE   writes the counts, and every skip with its reason, as JSON
--no-peers       hides the peers; a test or test file that imports one is skipped

A skip counts as allowed where the test is marked `cuda`: its machine has no GPU.
"""

import json
import re
import sys
from collections.abc import Generator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

import pytest

PEERS = ("torch", "jax", "jaxlib", "scipy", "onnx")
KEYS = {"failed": "failed", "passed": "passed", "skipped": "skipped", "error": "errors",
        "xfailed": "xfailed", "xpassed": "xpassed", "warnings": "warnings"}  # fmt: skip


class WithoutPeers(PathFinder):
    """Finds what is installed, except for the peers: they are as if they were not there."""

    @classmethod
    def find_spec(
        cls,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in PEERS:
            return None
        return super().find_spec(fullname, path, target)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("convgrad")
    group.addoption("--account", metavar="FILE", help="write what ran and what did not as JSON")
    group.addoption("--no-peers", action="store_true", help="run what needs no torch, jax, …")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--no-peers"):
        sys.meta_path[:] = [WithoutPeers if f is PathFinder else f for f in sys.meta_path]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _skip_without_peers(item.config))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _skip_without_peers(item.config))


def _skip_without_peers(config: pytest.Config) -> Generator[None, object, object]:
    """Turn the failed import of a peer into a skip."""
    try:
        return (yield)
    except ModuleNotFoundError as error:
        if config.getoption("--no-peers") and _peer(error):
            pytest.skip(f"needs {_peer(error)}")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A test file that imports a peer at its top is skipped as a whole."""
    report = yield
    call = getattr(report, "call", None)
    error = call.excinfo.value.__cause__ if call and call.excinfo else None
    if report.failed and collector.config.getoption("--no-peers") and _peer(error):
        report.outcome = "skipped"
        report.longrepr = (str(collector.path), 0, f"Skipped: needs {_peer(error)}")
    return report


def _peer(error: BaseException | None) -> str | None:
    """The peer whose import failed, if it is one."""
    name = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    top = (name or "").partition(".")[0]
    return top if top in PEERS else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    path = terminalreporter.config.getoption("--account")
    if not path:
        return
    stats = terminalreporter.stats
    skips = {report.nodeid: _skip(report) for report in stats.get("skipped", [])}
    counts = {KEYS[key]: len(reports) for key, reports in stats.items() if key in KEYS}
    account = {"counts": counts, "skips": list(skips.values())}
    Path(path).write_text(json.dumps(account), encoding="utf-8")


def _skip(report: pytest.TestReport | pytest.CollectReport) -> dict[str, str]:
    """One skip, as JSON keeps it."""
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    absent = re.match(r"could not import '(\w+)", reason)  # what pytest.importorskip says
    whole_file = isinstance(report, pytest.CollectReport)
    return {
        "id": report.nodeid,
        "kind": "test file" if whole_file else "test",
        "reason": f"needs {absent[1]}" if absent else reason,
        "allowed": "yes" if not whole_file and "cuda" in report.keywords else "no",
    }
