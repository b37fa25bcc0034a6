"""Blocks of a run side by side, results in their order: the same bits with one thread and with fifty workers.

Any ``concurrent.futures.Executor`` will do. What is submitted is a pure function of its item, and results are taken in
the order of the items, so how many work at once changes nothing but the time. How much is under way is bounded, so
memory is too.
"""

from __future__ import annotations

import importlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from federome.errors import Invalid, Unavailable

CONNECT_S = 30

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(fn: Callable[[Item], Result], items: Iterable[Item], executor: Executor, window: int) -> Iterator[Result]:
    """``map(fn, items)`` on an executor, with at most ``window`` items submitted and not yet taken.

    Items are drawn in the caller's thread, only as far as the window reaches. The first is finished there before the
    second begins: what a pure function remembers of their common input is then worked out once. An exception of
    ``fn`` or of ``items`` comes out where its result would have; nothing is under way any more when it does, nor when
    the caller stops early and closes the iterator.
    """
    if window < 1:
        raise ValueError("a window holds at least one item")
    source = iter(items)
    waiting: deque[Future[Result]] = deque()

    def submit(count: int) -> None:
        waiting.extend(executor.submit(fn, item) for item in islice(source, count))

    for first in islice(source, 1):
        yield fn(first)
    try:
        submit(window)
        while waiting:
            result = waiting[0].result()
            waiting.popleft()
            submit(window - len(waiting))
            yield result
    finally:
        wait([future for future in waiting if not future.cancel()])


@dataclass(frozen=True)
class Workers:
    """Who computes the blocks of a run; without an executor the caller itself, one after another."""

    executor: Executor | None = None
    window: int = 1
    done: Callable[[], None] = lambda: None

    @classmethod
    def threads(cls, count: int = 0) -> Workers:
        """That many threads, by default (0) one for each core; kernels let go of the GIL. ``Invalid`` below zero."""
        if count < 0:
            raise Invalid(f"{count} threads cannot work.", where="threads", remedy="Use 1 or more, or 0 for all cores.")
        count = count or os.cpu_count() or 1
        if count == 1:
            return cls()
        return cls(ThreadPoolExecutor(count, thread_name_prefix="block"), count + 1)

    @classmethod
    def cluster(cls, address: str) -> Workers:
        """The workers of a Dask cluster, by its scheduler's address (``tcp://host:8786``).

        A task whose worker dies is given to another one. ``Unavailable`` where no scheduler answers, ``Invalid``
        where the extra is not installed.
        """
        try:
            distributed: Any = importlib.import_module("distributed")  # it has no types
        except ImportError as error:
            raise Invalid(
                "a cluster needs a part that is not installed.",
                where="cluster",
                remedy='Install it: pip install "federome[cluster]"',
            ) from error
        try:
            client = distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise Unavailable(
                "no Dask scheduler answers.", where=address, remedy="Start it, or correct `cluster` in node.toml."
            ) from error
        threads = sum(client.nthreads().values())
        return cls(client.get_executor(pure=False), 2 * max(threads, 1) + 1, client.close)

    def close(self) -> None:
        """Let go of threads, or of the cluster."""
        if self.executor is not None:
            self.executor.shutdown()
        self.done()

    def map(self, fn: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """``map(fn, items)``, see :func:`in_order`."""
        if self.executor is None:
            return map(fn, items)
        return in_order(fn, items, self.executor, self.window)
