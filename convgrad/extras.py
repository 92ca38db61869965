"""The optional packages: asked for in one place, so that every refusal names its remedy."""

from __future__ import annotations

from importlib.util import find_spec

from convgrad.errors import MissingExtraError

_PACKAGES = {"PIL": "pillow"}  # where the package is not called as its module is


def require(*modules: str, extra: str, purpose: str) -> None:
    """Pass if every module can be found; nothing is imported yet.

    `purpose` is what the caller is about to do, as the subject of a sentence: "training a model".
    Raises MissingExtraError, which names the purpose, the missing packages and the command
    that installs the extra.
    """
    missing = [_PACKAGES.get(name, name) for name in modules if find_spec(name) is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise MissingExtraError(
            f"{purpose} needs {' and '.join(missing)}, which {are} not installed; "
            f'in the folder of convgrad\'s clone run: python -m pip install ".[{extra}]"'
        )
