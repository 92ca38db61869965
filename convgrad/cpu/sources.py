"""The engine's own sources as a digest: what a kernel is made from, known before it is written.

Writing a kernel as IR takes some milliseconds, finding it in the cache a tenth of one. Its text
follows from these sources, its generator, element type and shape; so its name there does, too.
"""

from hashlib import sha256
from pathlib import Path


def _digest() -> str | None:
    """Of every file below this folder; None where they cannot be read (a zip, bytecode alone)."""
    here = Path(__file__)
    try:
        files = sorted(here.parent.rglob("*.py"))
        if here not in files:
            return None
        digest = sha256()
        for path in files:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(here.parent)} {len(content)} ".encode() + content)
    except OSError:
        return None
    return digest.hexdigest()


# Taken as the engine is imported: what replaces the files later (pip, an editor) is not what runs.
DIGEST = _digest()
