"""cnntrain and cnntest: many passes over samples, and the rate of wrong answers."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from convgrad.contracts.deeplearntoolbox.arrays import (
    cells,
    ordered,
    random_generator,
    whole_number,
)
from convgrad.contracts.deeplearntoolbox.network import Net, images, option, parameters, targets
from convgrad.contracts.deeplearntoolbox.passes import (
    cnnapplygrads,
    cnnbp,
    cnnff,
    feature_vector,
    forward,
    learning_rate,
    output,
    stacked,
)
from convgrad.errors import SettingError

BLOCK = 128  # samples that cnntest looks at together, to bound the memory of their maps


def cnntrain(
    net: Net,
    x: Any,
    y: Any,
    opts: Any,
    *,
    rng: Any = None,
    permutations: Iterable[Any] | None = None,
    after_epoch: Callable[[int], object] | None = None,
) -> Net:
    """Stochastic gradient descent: opts' numepochs times over all samples, batchsize at a time.

        rL[0] = L of the first batch,  rL[t+1] = 0.99·rL[t] + 0.01·L of batch t

    x (H, W, N), y (onum, N) → net, changed, with rL (steps + 1,).
    opts            a dict or an object with alpha, batchsize and numepochs
    permutations    the order of the samples in each epoch, an iterable of numbers 0…N−1 each;
                    without them
    rng             a numpy.random.Generator or a seed draws them
    after_epoch     is called after each epoch with its number, from 1
    Raises SettingError for a batchsize that does not divide N, and for what is no permutation.
    """
    samples = images("cnntrain", "x", x)
    count = samples.shape[2]
    learning_rate("cnntrain", opts)
    values = parameters("cnntrain", net, samples.shape[:2])
    wanted = targets("cnntrain", y, count, values.ffW.shape[0])
    batchsize = _batchsize(opts, count)
    epochs = whole_number("cnntrain", "numepochs", option("cnntrain", "opts", opts, "numepochs"))
    recorded: list[float] = []
    for epoch, order in enumerate(_orders(epochs, count, rng, permutations), start=1):
        for start in range(0, count, batchsize):
            batch = order[start : start + batchsize]
            cnnff(net, samples[:, :, batch])
            cnnbp(net, wanted[:, batch])
            cnnapplygrads(net, opts)
            recorded = recorded or [net.L]
            recorded.append(0.99 * recorded[-1] + 0.01 * net.L)
        net.rL = np.array(recorded)
        if after_epoch is not None:
            after_epoch(epoch)
    return net


def _batchsize(opts: Any, count: int) -> int:
    size = whole_number("cnntrain", "batchsize", option("cnntrain", "opts", opts, "batchsize"))
    if size > count:
        raise SettingError(
            f"cnntrain: batchsize {size} is more than the {count} samples; take at most {count}"
        )
    if count % size:
        raise SettingError(
            f"cnntrain: batchsize {size} does not divide the {count} samples; take a divisor, or "
            f"leave out {count % size} samples"
        )
    return size


def _orders(
    epochs: int, count: int, rng: Any, permutations: Iterable[Any] | None
) -> Iterator[np.ndarray]:
    """The order of the samples in each epoch; given ones are checked before the first is used."""
    if permutations is None:
        generator = random_generator("cnntrain", rng)
        return (generator.permutation(count) for _ in range(epochs))
    if rng is not None:
        raise SettingError("cnntrain: permutations and rng are both given; give one of them")
    given = ordered("cnntrain", "permutations", permutations, "one for each epoch")
    orders = list(islice(given, epochs + 1))  # one too many is enough to know, were they endless
    if len(orders) != epochs:
        number = len(orders) if len(orders) < epochs else f"more than {epochs}"
        raise SettingError(
            f"cnntrain: there are {number} permutations for {epochs} epochs; give one for each "
            "epoch"
        )
    return iter([_permutation(i, one, count) for i, one in enumerate(orders)])


def _permutation(index: int, given: Any, count: int) -> np.ndarray:
    order = cells("cnntrain", f"permutations[{index}]", given)
    numbers = order.ndim == 1 and order.dtype.kind in "iuf"  # MATLAB's are floats
    if not numbers or not np.array_equal(np.sort(order), np.arange(count)):
        raise SettingError(
            f"cnntrain: permutations[{index}] is not an order of 0…{count - 1}; numbers count "
            "from 0, so subtract 1 from MATLAB's randperm"
        )
    return order.astype(np.intp)


def cnntest(net: Net, x: Any, y: Any) -> tuple[float, np.ndarray]:
    """er = |bad|/N; bad = the samples whose largest output is not where y is largest, from 0.

    x (H, W, N), y (onum, N) → (er, bad). The first of equal outputs counts as the largest, NaN
    never does. The net is left as it is.
    """
    samples = images("cnntest", "x", x)
    count = samples.shape[2]
    values = parameters("cnntest", net, samples.shape[:2])
    wanted = targets("cnntest", y, count, values.ffW.shape[0])
    answers = np.empty(count, np.intp)
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        *_, stack = forward(values, stacked(samples[:, :, block]))
        answers[block] = _largest(output(values, feature_vector(stack.transpose(1, 2, 3, 0))))
    bad = np.flatnonzero(answers != _largest(wanted))
    return len(bad) / count, bad


def _largest(rows: np.ndarray) -> np.ndarray:
    """The row of each column's largest number, as MATLAB's max finds it."""
    return np.where(np.isnan(rows), -np.inf, rows).argmax(axis=0)
