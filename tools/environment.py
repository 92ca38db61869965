"""The virtual environment of a clone: made once, filled with the extras that are needed, kept.

A stamp inside the environment records the folder, pyproject.toml and extras it was filled from.
While they are the same, `prepare` is one small file read.
"""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

from downloads import announce

ROOT = Path(__file__).resolve().parent.parent
STAMP = "convgrad-setup.json"


class SetupError(Exception):
    """The environment cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment and what it is to hold.

    folder       where it is, such as .venv
    extras       the extras of pyproject.toml whose packages it needs
    peers        whether it needs the peers too (extra `test`), each kept if already there
    constraints  a pip constraints file with exact versions, or None
    """

    folder: Path
    extras: tuple[str, ...]
    peers: bool = False
    constraints: Path | None = None

    @property
    def scripts(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    @property
    def python(self) -> Path:
        return self.scripts / ("python.exe" if os.name == "nt" else "python")


@dataclass(frozen=True)
class Stamp:
    """What an environment was filled from: which clone, a digest of its files, which extras."""

    root: str
    digest: str
    extras: tuple[str, ...]

    def covers(self, wanted: "Stamp") -> bool:
        same = (self.root, self.digest) == (wanted.root, wanted.digest)
        return same and set(wanted.extras) <= set(self.extras)


def prepare(env: Environment) -> None:
    """Make the environment, or bring it up to date, and install the clone in it as editable."""
    there, wanted = _read_stamp(env), _wanted(env)
    if there and there.covers(wanted):
        return
    _make(env, moved=there is not None and there.root != wanted.root)
    needed = _requirements(env)
    announce(env.folder.name, _to_install(env, needed))
    _pip(env, "install", *_constraint(env), *needed)
    _pip(env, "install", "--no-deps", "--editable", str(ROOT))
    (env.folder / STAMP).write_text(json.dumps(asdict(wanted), indent=1), encoding="utf-8")


def _wanted(env: Environment) -> Stamp:
    """The stamp of an environment that is as `env` describes it."""
    digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
    if env.constraints:
        digest.update(env.constraints.read_bytes())
    extras = (*env.extras, *(["test"] if env.peers else []))
    return Stamp(str(ROOT), digest.hexdigest(), extras)


def _read_stamp(env: Environment) -> Stamp | None:
    """The stamp that is there; None where there is none that can be read."""
    try:
        return Stamp(**json.loads((env.folder / STAMP).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _make(env: Environment, moved: bool) -> None:
    """Create the environment if there is none that works; one moved with its clone does not."""
    if not moved and _works(env):
        return
    if env.folder.exists() and not (env.folder / "pyvenv.cfg").is_file():
        raise SetupError(f"{env.folder} is there, but is no virtual environment; move it away")
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise SetupError(
            f"{sys.executable} (Python {version}) cannot make virtual environments: "
            "its module ensurepip is not installed.\n"
            f"On Debian and Ubuntu:  sudo apt install python{version}-venv"
        )
    print(f"making {env.folder.name} with Python {sys.version.split()[0]}", flush=True)
    made = subprocess.run([sys.executable, "-m", "venv", "--clear", str(env.folder)], check=False)
    if made.returncode:
        raise SetupError(f"python -m venv failed in {env.folder}; its message stands above")


def _works(env: Environment) -> bool:
    """Whether the environment's Python starts, is new enough and has pip."""
    code = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
    try:
        done = subprocess.run([env.python, "-c", code], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def _requirements(env: Environment) -> list[str]:
    """The requirements of the project and its extras, less the peers that are already there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(r for e in env.extras for r in extras[e])]
    if env.peers:
        here = _installed(env)
        needed += [r for r in extras["test"] if _name(r) not in here]
    return needed


def _name(requirement: str) -> str:
    """The package that a requirement speaks of: "torch==2.13.0" → "torch"."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise SetupError(f"pyproject.toml: {requirement!r} is not a requirement")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def _installed(env: Environment) -> set[str]:
    listing = _pip(env, "list", "--format=json", quiet=True)
    return {_name(package["name"]) for package in json.loads(listing)}


def _to_install(env: Environment, needed: list[str]) -> list[tuple[str, str]]:
    """(name, version) of every package that pip would download, by a dry run."""
    options = ("--dry-run", "--quiet", "--report", "-")
    report = _pip(env, "install", *options, *_constraint(env), *needed, quiet=True)
    found = [item["metadata"] for item in json.loads(report)["install"]]
    return [(_name(meta["name"]), meta["version"]) for meta in found]


def _constraint(env: Environment) -> tuple[str, ...]:
    return ("--constraint", str(env.constraints)) if env.constraints else ()


def _pip(env: Environment, command: str, *arguments: str, quiet: bool = False) -> str:
    """Run the environment's pip; its output is returned when `quiet`, shown on a terminal."""
    silent = () if quiet or sys.stdout.isatty() else ("--quiet",)
    line = [env.python, "-m", "pip", "--disable-pip-version-check", command, *silent, *arguments]
    output = subprocess.PIPE if quiet else None
    done = subprocess.run(line, stdout=output, encoding="utf-8", check=False)
    if done.returncode:
        raise SetupError(
            f"pip {command} failed in {env.folder.name}; its message stands above.\n"
            "If the network is the reason, run the same command again later: "
            "what is installed already is kept."
        )
    return done.stdout or ""
