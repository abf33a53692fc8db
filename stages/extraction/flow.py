"""Threads between the steps of the loop: one that produces ahead, one that consumes behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import Full, Queue
from typing import Any, TypeVar

T = TypeVar("T")

_LOOK_SECONDS = 0.1  # how often a waiting producer looks whether the consumer has died


class _Stopped(Exception):
    """The producer gave up: what the consumer holds unfinished is not to be kept."""


def ahead(source: Iterable[T], depth: int) -> Iterator[T]:
    """Yield what `source` yields, made in a thread up to `depth` items ahead; its exceptions come out here."""
    iterator, end = iter(source), object()
    with ThreadPoolExecutor(1) as thread:
        waiting: deque[Future[Any]] = deque()
        try:
            while True:
                while len(waiting) < depth:
                    waiting.append(thread.submit(next, iterator, end))
                item = waiting.popleft().result()
                if item is end:
                    return
                yield item
        finally:
            thread.shutdown(cancel_futures=True)


@contextmanager
def behind(consume: Callable[[Iterator[T]], None], depth: int) -> Iterator[Callable[[T], None]]:
    """Yield `give(item)`; `consume` runs in a thread over the items, at most `depth` of them waiting.

    An exception of `consume` comes out of the next `give`, or at the end of the block, which waits for `consume`. Where
    the block raises, the items end with an exception inside `consume`.
    """
    queue: Queue[Any] = Queue(depth)
    end, stop = object(), object()

    def items() -> Iterator[T]:
        for item in iter(queue.get, end):
            if item is stop:
                raise _Stopped
            yield item

    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(consume, items())

        def give(item: Any) -> None:
            while not done.done():
                try:
                    return queue.put(item, timeout=_LOOK_SECONDS)
                except Full:
                    continue
            return done.result()

        try:
            yield give
        except BaseException:
            if not done.done():
                while not queue.empty():
                    queue.get_nowait()
                queue.put(stop)
            raise
        give(end)
        done.result()
