"""The same work on many images, by several processes, with the results in order."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import Any, TypeVar

from srgan_plugin.errors import FileError

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]


def ordered_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None = None,
    progress: Progress | None = None,
) -> Iterator[Result]:
    """Yield `function(item)` of every item in order, with few results in memory at a time.

    Args:
        function: Can be pickled; sent to each process once.
        items: Can be pickled.
        workers: Processes; 1 works in this one. None: one for each processor.
        progress: Called with the numbers of results used and of items.

    Raises:
        OSError: If a process dies. What `function` raises is raised here.
    """
    workers = min(workers or os.cpu_count() or 1, len(items))
    results = map(function, items) if workers <= 1 else _pooled(function, items, workers)
    for done, result in enumerate(results, start=1):
        yield result
        if progress is not None:
            progress(done, len(items))


def _pooled(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    # Spawned, because a fork of a process with threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (function,))
    jobs = (pool.submit(_work, item) for item in items)
    waiting: deque[Future[Result]] = deque(islice(jobs, 2 * workers))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(islice(jobs, 1))
    except BrokenProcessPool:
        raise FileError("a reading process died, perhaps of memory: use fewer workers") from None
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Callable[[Any], Any]


def _start_worker(function: Callable[[Any], Any]) -> None:
    """Send what all jobs of a process share once instead of with each job."""
    global _worker  # noqa: PLW0603 - of a process that does nothing else
    _worker = function


def _work(item: Any) -> Any:
    return _worker(item)
