"""The learning curve: what is drawn, where, and that the file is a whole PNG."""

import os

import pytest

from convgrad.errors import TrainingError
from convgrad.nn.training.history import History

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture
def history() -> History:
    history = History(samples=4, batch_size=2)
    history.losses = [4.0, 2.0, 1.0, 0.5, 0.25]
    history.correct = [0, 1, 2, 2, 2]
    history.validation = [0.5, 0.75]
    return history


def drawn(history: History, tmp_path, monkeypatch) -> list:
    """The axes that save_learning_curve draws."""
    from matplotlib.figure import Figure

    from convgrad.nn.training.curves import save_learning_curve

    figures = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, *a, **k: (figures.append(self), savefig(self, *a, **k))
    )
    save_learning_curve(history, tmp_path / "数 字.png", "a title")
    assert figures[0].get_suptitle() == "a title"
    return figures[0].axes


def test_the_lines_are_the_history(history: History, tmp_path, monkeypatch) -> None:
    loss, share = drawn(history, tmp_path, monkeypatch)
    steps, means = (line.get_xydata().tolist() for line in loss.lines)
    assert steps == [[0.5, 4.0], [1.0, 2.0], [1.5, 1.0], [2.0, 0.5], [2.5, 0.25]]
    assert means == [[0.5, 3.0], [1.5, 0.75]]
    train, held = (line.get_xydata().tolist() for line in share.lines)
    assert train == [[0.5, 25.0], [1.5, 100.0]]
    assert held == [[1.0, 50.0], [2.0, 75.0]]
    assert (loss.get_xlabel(), loss.get_ylabel()) == ("epoch", "training loss")
    assert (share.get_xlabel(), share.get_ylabel()) == ("epoch", "accuracy (%)")
    assert loss.get_legend() is not None
    assert share.get_legend() is not None


def test_a_whole_png_and_nothing_else(history: History, tmp_path, monkeypatch) -> None:
    drawn(history, tmp_path, monkeypatch)
    content = (tmp_path / "数 字.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content.endswith(b"IEND\xaeB`\x82")
    assert os.listdir(tmp_path) == ["数 字.png"]


def test_an_unfinished_first_epoch_can_be_drawn(tmp_path, monkeypatch) -> None:
    history = History(samples=4, batch_size=1)
    history.losses, history.correct = [1.0], [0]
    loss, share = drawn(history, tmp_path, monkeypatch)
    assert len(loss.lines[0].get_xdata()) == 1
    assert len(share.lines[0].get_xdata()) == 0


def test_a_folder_that_is_gone_is_named(history: History, tmp_path) -> None:
    from convgrad.nn.training.curves import save_learning_curve

    with pytest.raises(TrainingError, match=r"cannot write .*No such file.*resume the run"):
        save_learning_curve(history, tmp_path / "gone" / "curve.png", "a title")
