"""Threads around the encoder: order, errors from either side, and nothing kept of what was given up."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from stages.extraction.batching import fitting_batch
from stages.extraction.flow import ahead, behind
from stages.extraction.shards import planned
from stages.extraction.timing import Clock


def test_ahead_keeps_the_order_and_its_distance() -> None:
    made: list[int] = []

    def source() -> Iterator[int]:
        for number in range(20):
            made.append(number)
            yield number

    for number in ahead(source(), 3):
        assert len(made) <= number + 1 + 3
    assert made == list(range(20))


def test_an_error_ahead_comes_out_behind_what_was_made() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    items = ahead(source(), 2)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_behind_sees_everything_in_order_in_another_thread() -> None:
    seen: list[tuple[int, bool]] = []
    main = threading.get_ident()
    with behind(lambda items: seen.extend((item, threading.get_ident() != main) for item in items), 2) as give:
        for number in range(10):
            give(number)
    assert seen == [(number, True) for number in range(10)]


def test_an_error_behind_reaches_the_producer() -> None:
    def consume(items: Iterator[int]) -> None:
        for item in items:
            if item == 3:
                raise OSError("full")

    with pytest.raises(OSError, match="full"), behind(consume, 1) as give:
        for number in range(100):
            give(number)


def test_a_producer_that_fails_ends_the_items_with_an_error() -> None:
    finished: list[str] = []

    def consume(items: Iterator[int]) -> None:
        try:
            for _ in items:
                pass
            finished.append("whole")
        except Exception:
            finished.append("given up")
            raise

    with pytest.raises(KeyError), behind(consume, 1) as give:
        give(1)
        raise KeyError("decode")
    assert finished == ["given up"]


@pytest.mark.parametrize(("total", "size"), [(1, 4), (8, 4), (9, 4), (3, 100)])
def test_shards_cover_every_row_once(total: int, size: int) -> None:
    rows = [row for start, stop in planned(total, size) for row in range(start, stop)]
    assert rows == list(range(total))


@pytest.mark.parametrize(("bytes_", "expected"), [(2**20, 32), (2**20 + 1, 16), (2**30, 8), (1, 256)])
def test_a_batch_fits_its_budget_within_limits(bytes_: int, expected: int) -> None:
    assert fitting_batch(bytes_, 2**25, (8, 256)) == expected


def test_shares_add_up_and_the_largest_is_named() -> None:
    clock = Clock()
    clock.seconds |= {"decode": 1.0, "transfer": 0.0, "forward": 3.0, "write": 0.0}
    assert clock.told() == "bound by forward (decode 25%, transfer 0%, forward 75%, write 0%)"
    assert sum(clock.shares.values()) == 1
    assert list(clock.waiting("decode", [1, 2])) == [1, 2]
