"""From what a person writes after --data to a data set."""

from __future__ import annotations

from convgrad.errors import DataError
from convgrad.nn.data.cifar import load_cifar10
from convgrad.nn.data.dataset import Dataset
from convgrad.nn.data.digits import load_digits, load_digits_by_writer
from convgrad.nn.data.idx import load_idx_folder

SOURCES = (
    "digits",
    "digits:by-writer",
    "mnist:<folder>",
    "fashion-mnist:<folder>",
    "cifar10:<folder>",
)


def load(spec: str) -> Dataset:
    """The data set that `spec` names: one of SOURCES, with a real folder for <folder>.

    Only the first colon separates, so Windows paths work: mnist:C:\\data\\mnist.
    Raises DataError for an unknown name, a missing folder, and files that are missing, cut short,
    of the wrong kind or not to be read.
    """
    name, where = split_spec(spec)
    try:
        return _load(spec, name, where)
    except OSError as error:
        raise DataError(
            f"{error.filename or where}: cannot be read ({error.strerror or error}); "
            "check the file's permissions and the disk"
        ) from error


def _load(spec: str, name: str, where: str) -> Dataset:
    match name:
        case "digits" if where in ("", "by-writer"):
            return load_digits_by_writer() if where else load_digits()
        case "digits":
            raise DataError(
                f"data {spec!r}: digits come as 'digits' (36 test images of each digit) or as "
                "'digits:by-writer' (the test images are other people's)"
            )
        case "mnist" | "fashion-mnist":
            return load_idx_folder(name, _folder(name, where))
        case "cifar10":
            return load_cifar10(_folder(name, where))
        case _:
            raise DataError(
                f"unknown data {spec!r}; known are {', '.join(SOURCES)} "
                "(a folder needs its kind in front, as in mnist:my-folder)"
            )


def split_spec(spec: str) -> tuple[str, str]:
    """The kind in lower case, and what follows the first colon as it was written."""
    name, _, where = spec.partition(":")
    return name.strip().lower(), where


def _folder(name: str, where: str) -> str:
    if not where:
        raise DataError(
            f"data {name!r} needs the folder that holds its original files: {name}:<folder>"
        )
    return where
