"""`convgrad cache`: the kernels kept on disk, and `clear` to delete them."""

from __future__ import annotations

import typer

from convgrad.cli import console
from convgrad.cpu.jit import cache as kept
from convgrad.errors import DataError

app = typer.Typer(help="Show where compiled kernels are kept, or delete them.")


@app.callback(invoke_without_command=True)
def show(context: typer.Context) -> None:
    """Show the folder in which compiled kernels are kept, how many there are, and their bytes."""
    if context.invoked_subcommand is None:
        count, size = kept.usage()
        rows = [("folder", str(kept.folder())), ("kernels", str(count)), ("bytes", f"{size:,}")]
        console.say(console.columns_of(rows))


@app.command()
def clear() -> None:
    """Delete the kernels; they are compiled again when they are next needed."""
    try:
        count, size = kept.clear()
    except OSError as error:
        raise DataError(f"cannot delete {error.filename}: {error.strerror or error}") from error
    console.say(f"deleted {count} kernels, {size:,} bytes, from {kept.folder()}")
