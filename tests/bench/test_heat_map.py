"""The heat map: written, with a row for each layer, and coloured by the ratio."""

from dataclasses import replace

import numpy as np
import pytest
from records import record, row

from convgrad.bench import picture
from convgrad.bench.summary import ratios
from convgrad.errors import DataError

pytest.importorskip("matplotlib")


def test_a_picture_is_written(tmp_path):
    path = tmp_path / "map.png"
    picture.draw(record(), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_colours_tell_slower_from_faster(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    slow, fast = tmp_path / "slow.png", tmp_path / "fast.png"
    base = record()
    for path, ratio in ((slow, 0.2), (fast, 5.0)):
        picture.draw(replace(base, rows=[row("a", "3×3", "forward", ratio)] * 3), path)
    reds, blues = [], []
    for path in (slow, fast):
        red, _, blue, _ = np.moveaxis(image.imread(path), -1, 0)
        reds.append(int((red > blue + 0.2).sum()))
        blues.append(int((blue > red + 0.2).sum()))
    assert reds[0] > reds[1]  # the legend has both
    assert blues[1] > blues[0]


def test_nothing_to_draw_is_said(tmp_path):
    with pytest.raises(DataError, match="nothing to draw"):
        picture.draw(replace(record(), rows=[]), tmp_path / "map.png")
    with pytest.raises(DataError, match="cannot write"):
        picture.draw(record(), tmp_path / "none" / "map.png")


def test_every_layer_has_its_row_and_blocks_fit_their_columns():
    rows = [row(f"layer {i}", "3×3", "forward", 1.0 + i) for i in range(100)]
    rows += [row(f"point {i}", "1×1", "forward", 0.5) for i in range(3)]
    blocks = picture._blocks(ratios(replace(record(), rows=rows), "PyTorch"))
    pages = picture._packed(blocks)
    assert len(pages) == 2
    assert all(sum(block.height for block in page) <= picture.TALLEST for page in pages)
    names = [name for page in pages for block in page for name in block.names]
    assert names.count(picture.MEAN) == 2
    assert {name for name in names if name != picture.MEAN} == {r.layer for r in rows}
    titles = [block.title for page in pages for block in page]
    assert titles == ["3×3", "3×3 (continued)", "1×1"]
