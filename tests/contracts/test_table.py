"""Every function of every contract, driven through its Signature: integers, tolerance zero.

A contract that is added to the TABLE is tested here with no edit.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from core.cases import cases, oracle
from hypothesis import find, given, settings

from convgrad.contracts import TABLE
from convgrad.contracts.signature import Case

SIGNATURES = {
    f"{contract.name}.{signature.name}": signature
    for contract in TABLE.values()
    for signature in contract.signatures
}


def as_case(drawn):
    """The contracts' Case of a drawn convolution, integer-valued, and its results by definition."""
    x, w, b, dy = drawn.integers()
    ddx, ddw, ddb, _ = replace(drawn, seed=drawn.seed ^ 1).integers()
    case = Case(
        x, w, b, dy, drawn.stride, drawn.pads, drawn.dilation, drawn.groups,
        ddx=ddx, ddw=ddw, ddb=ddb,
    )  # fmt: skip
    none = np.zeros_like(b)
    want = dict(zip(("y", "dx", "dw", "db"), oracle(drawn, x, w, b, dy), strict=True))
    along_x, _, second_w, _ = oracle(drawn, ddx, w, ddb, dy)
    along_w, second_x, _, _ = oracle(drawn, x, ddw, none, dy)
    return case, want | {"ddy": along_x + along_w, "ddx→dx": second_x, "ddw→dw": second_w}


def plain(drawn):
    """A convolution that most conventions can express."""
    ones = (1,) * drawn.rank
    return fitting(
        replace(drawn, stride=ones, dilation=ones, pads=((0, 0),) * drawn.rank), drawn.in_size
    )


def symmetric(drawn):
    """The same with pads that agree on both sides, one group, one setting for all axes."""
    pad = max(max(pair) for pair in drawn.pads)
    rank = drawn.rank
    one = replace(
        drawn, batch=max(drawn.batch, 1), groups=1, kernel=(max(drawn.kernel),) * rank,
        stride=drawn.stride[:1] * rank, dilation=(1,) * rank, pads=((pad, pad),) * rank,
    )  # fmt: skip
    return fitting(one, drawn.in_size)


def fitting(drawn, in_size):
    """With an input that the kernel fits into."""
    return replace(
        drawn, in_size=tuple(max(n, k) for n, k in zip(in_size, drawn.kernel, strict=True))
    )


def compare(signature, case, want):
    second = "ddy" in signature.gives
    results = signature.call(signature.function, case)
    assert set(results) == set(signature.gives)
    for name, got in results.items():
        # Of a double backward, dx and dw are those of the second order.
        expected = want[{"dx": "ddx→dx", "dw": "ddw→dw"}.get(name, name) if second else name]
        np.testing.assert_array_equal(got, expected, err_msg=name)


@pytest.mark.parametrize("name", SIGNATURES)
def test_drawn_convolutions_are_exact_or_refused(name):
    signature, seen = SIGNATURES[name], Counter()

    @settings(max_examples=60)
    @given(cases(ranks=(1, 2, 3)))
    def check(drawn):
        for one in {drawn, plain(drawn), symmetric(drawn)}:
            case, want = as_case(one)
            sentence = signature.refuses(case)
            seen["refused" if sentence else "run"] += 1
            if sentence is None:
                compare(signature, case, want)

    check()
    assert seen["run"] >= 5, f"{name} accepts nearly nothing: {seen}"


def test_a_signature_calls_the_function_it_is_given():
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    for signature in SIGNATURES.values():
        drawn = find(
            cases(largest_batch=1),
            lambda c, s=signature: c.batch == 1 and s.refuses(as_case(plain(c))[0]) is None,
        )
        with pytest.raises(ZeroDivisionError):
            signature.call(broken, as_case(plain(drawn))[0])


def test_contracts_say_where_they_come_from():
    for key, contract in TABLE.items():
        assert key == contract.name
        assert contract.summary
        assert contract.source
        names = [signature.name for signature in contract.signatures]
        assert len(names) == len(set(names)), names
