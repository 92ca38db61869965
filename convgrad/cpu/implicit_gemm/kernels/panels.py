"""Panels of cells packed for the micro-kernel, and which pieces of a sum they make."""

from convgrad.cpu.implicit_gemm.kernels.runs import copy_patches, copy_runs
from convgrad.cpu.jit.language import Kernel, Lanes
from convgrad.cpu.kernels.frame import start

PIECE = 3  # words of a piece of a sum: its first tap, that tap's place, and how many follow


def pack_panel(lanes: Lanes, width: int, fields: tuple[str, ...]) -> Kernel:
    """to[r][u][cell] (order 1: [u][r][cell]) for the cells of a panel; live[u]: met at all?"""
    k, a = start(
        "pack_panel", lanes, fields,
        ("args: ptr", "table: ptr", "live: ptr", "source: array", "channels: i64", "to: ptr"),
    )  # fmt: skip
    _, table, live, source, channels, to = k.parameters
    none, one = k.constant("i64", 0), k.constant("i64", 1)
    by_place = a["order"].equals(1)
    each_r = k.select(by_place, one, a["U"]) * width
    each_place = k.select(by_place, channels, one) * width
    patches = k.select(a["along"] > 0, a["U"], none)
    with k.loop(patches, step=a["along"].maximum(1)) as (u, _):
        copy_patches(k, a, table, a["places"].at(u * 3, "i64"), source, channels,
                     to.at(u * each_place), (each_r, each_place), width)  # fmt: skip
    with k.loop(a["U"], start=patches) as (u, _):
        meets = copy_runs(k, a, table, a["places"].at(u * 3, "i64"), source, channels,
                          to.at(u * each_place), each_r, width)  # fmt: skip
        with k.when(a["skips"].equals(1)):
            live.at(u, "i64").store(k.select(meets, one, none), 0)
    return k


def list_pieces(lanes: Lanes, fields: tuple[str, ...]) -> Kernel:
    """Of each phase: how many pieces, then (first tap, its place, number) of taps in runs.

    A piece is taps of a phase that meet anything, one after the other, whose places follow each
    other; all in order 1, where they lie so in memory.
    """
    k, a = start("list_pieces", lanes, fields, ("args: ptr", "live: ptr", "lists: ptr"))
    _, live, lists = k.parameters
    none = k.constant("i64", 0)
    with k.loop(a["B"] * a["phases"]) as (phase, _):
        tap0 = a["starts"].load(phase, "i64")
        taps = a["starts"].load(phase + 1, "i64") - tap0
        pieces = lists.at(tap0 * PIECE + phase, "i64")
        with k.loop(taps, carry=[none] * 4) as (t, found):
            number, tap, place, length = found.values
            here = a["slots"].load(tap0 + t, "i64")
            meets = live.load(here, "i64").equals(1)
            goes_on = (number > 0) & t.equals(tap + length) & here.equals(place + length)
            fresh = meets & goes_on.equals(0)
            number = k.select(fresh, number + 1, number)
            tap, place = k.select(fresh, t, tap), k.select(fresh, here, place)
            length = k.select(fresh, none, length)
            length = k.select(meets, length + 1, length)
            piece = pieces.at(number * PIECE - PIECE + 1, "i64")
            with k.when(number > 0):
                for i, word in enumerate((tap, place, length)):
                    piece.store(word, i)
            found.values = [number, tap, place, length]
        pieces.store(found.values[0], 0)
    return k
