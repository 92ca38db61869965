"""Looking something up by its name, with an error that lists the names there are."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from convgrad.errors import SettingError

T = TypeVar("T")


def choose(table: Mapping[str, T], name: str, what: str) -> T:
    """table[name].

    Raises SettingError that names the nearest spelling and every name in the table.
    """
    if isinstance(name, str) and name in table:
        return table[name]
    near = get_close_matches(str(name), table, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise SettingError(f"unknown {what} {name!r}: {hint}choose one of {', '.join(table)}")
