"""Map a function over many items in several processes, with the results in order."""

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
        function: Picklable function; sent to each process once.
        items: Picklable items.
        workers: Number of processes; 1 works in this process, None starts one on each processor.
        progress: Called with the number of results used and the number of items.

    Raises:
        FileError: A process died. Exceptions of `function` are raised unchanged.
    """
    workers = min(workers or os.cpu_count() or 1, len(items))
    results = map(function, items) if workers <= 1 else _map_in_pool(function, items, workers)
    for done, result in enumerate(results, start=1):
        yield result
        if progress is not None:
            progress(done, len(items))


def _map_in_pool(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    # Spawned, because forking a process with threads may hang.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (function,))
    jobs = (pool.submit(_work, item) for item in items)
    waiting: deque[Future[Result]] = deque(islice(jobs, 2 * workers))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(islice(jobs, 1))
    except BrokenProcessPool:
        raise FileError(
            "workers: expected every process to finish, got one that died, perhaps for lack of "
            "memory; use fewer workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Callable[[Any], Any]


def _start_worker(function: Callable[[Any], Any]) -> None:
    """Store the function in a worker process, to send it once instead of with each item.

    The pairs of 32,208 sub-images are 1.7 MB, which take 0.24 s to pickle and unpickle.
    """
    global _worker  # noqa: PLW0603 - the process has no other use
    _worker = function


def _work(item: Any) -> Any:
    return _worker(item)
