"""How training goes, while it goes: one moving line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from convgrad.cli import console
from convgrad.nn.training.evaluation import percent
from convgrad.nn.training.run import Run

REDRAW_SECONDS = 0.1
PLAIN_SECONDS = 10.0
WINDOW_SECONDS = 5.0
BAR_WIDTH, WIDE = 20, 110


class Clock:
    """Images per second and the time left, from the steps of the last few seconds."""

    def __init__(self, run: Run) -> None:
        self._marks = deque([(time.monotonic(), run.step)])

    def tick(self, run: Run) -> None:
        """Note that a step was done; call once after each."""
        self._marks.append((time.monotonic(), run.step))
        while self._marks[-1][0] - self._marks[1][0] > WINDOW_SECONDS:
            self._marks.popleft()

    def rate(self, run: Run) -> float:
        per_step = run.history.samples / run.history.steps_per_epoch
        return per_step / self._seconds_per_step()

    def left(self, run: Run) -> str:
        return duration(self._seconds_per_step() * (run.total_steps - run.step))

    def _seconds_per_step(self) -> float:
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        return max(now - began, 1e-9) / max(last - first, 1)


def duration(seconds: float) -> str:
    """75 → `1:15`, 3700 → `1:01:40`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def epoch_line(run: Run, clock: Clock) -> str:
    """What the epoch that just ended came to."""
    history, epoch = run.history, run.history.epochs_done - 1
    epochs = run.settings.epochs
    parts = [
        f"epoch {epoch + 1:>{len(str(epochs))}}/{epochs}",
        f"loss {history.loss_of(epoch):.4f}",
        f"accuracy {percent(history.accuracy_of(epoch)):>7}",
        f"held out {percent(history.validation[-1]):>7}" if history.validation else "",
        f"{clock.rate(run):,.0f} images/s",
    ]
    return "  ".join(part for part in parts if part)


def batch_line(run: Run, clock: Clock, width: int = 1000) -> str:
    """Where the current epoch stands; what matters least is left out where there is no room."""
    history = run.history
    epoch, batch = divmod(run.step - 1, history.steps_per_epoch)
    place = f"epoch {epoch + 1}/{run.settings.epochs}"
    batches = f"{place} batch {batch + 1}/{history.steps_per_epoch}"
    loss, share = f"loss {history.loss_of(epoch):.3f}", percent(history.accuracy_of(epoch))
    rate, left = f"{clock.rate(run):,.0f} images/s", f"{clock.left(run)} left"
    choices = (
        (batches, loss, f"accuracy {share}", rate, left),
        (batches, loss, f"accuracy {share}", left),
        (place, loss, f"accuracy {share}", left),
        (place, f"accuracy {share}", left),
        (place, share, left),
        (place, share),
    )
    lines = ["  ".join(parts) for parts in choices]
    return next((line for line in lines if len(line) <= width), lines[-1])


@contextmanager
def shown(run: Run) -> Iterator[Callable[[Run], None]]:
    """Gives the function to call after each step."""
    with (_moving if console.is_live() else _plain)(run) as after_step:
        yield after_step


@contextmanager
def _plain(run: Run) -> Iterator[Callable[[Run], None]]:
    """A line for each epoch, and one every ten seconds within a long one."""
    clock, printed = Clock(run), [time.monotonic()]

    def after_step(run: Run) -> None:
        clock.tick(run)
        if run.step % run.history.steps_per_epoch == 0:
            print(epoch_line(run, clock), flush=True)
        elif time.monotonic() - printed[0] > PLAIN_SECONDS:
            print(batch_line(run, clock), flush=True)
        else:
            return
        printed[0] = time.monotonic()

    yield after_step


@contextmanager
def _moving(run: Run) -> Iterator[Callable[[Run], None]]:
    """A line for each epoch above one that moves, with a bar where there is room."""
    clock, drawn = Clock(run), [0.0]
    target = console.out()
    text = TextColumn("{task.description}", table_column=Column(no_wrap=True), markup=False)
    bar = [BarColumn(bar_width=BAR_WIDTH)] if target.width >= WIDE else []
    room = target.width - (BAR_WIDTH + 1 if bar else 0)
    with Progress(*bar, text, console=target, transient=True) as progress:
        task = progress.add_task("", total=run.total_steps, completed=run.step)

        def after_step(run: Run) -> None:
            clock.tick(run)
            if run.step % run.history.steps_per_epoch == 0:
                progress.console.print(epoch_line(run, clock), no_wrap=True, overflow="ellipsis")
            elif time.monotonic() - drawn[0] < REDRAW_SECONDS:
                return
            drawn[0] = time.monotonic()
            progress.update(task, completed=run.step, description=batch_line(run, clock, room))

        yield after_step
