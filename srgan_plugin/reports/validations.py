"""Find the iterations of validations whose log entries do not contain them."""

import itertools
import sys
from collections.abc import Iterator, Sequence


class ValidationCounter:
    """Count the validations of a session, in the order of its log.

    Args:
        schedule: (first iteration, interval), in order: from `first iteration` to that of the next
            pair, there is a validation at each multiple of `interval`. Empty if it is unknown.
        last: Last iteration of the training, after which there is a validation; 0 if unknown.
    """

    def __init__(self, schedule: Sequence[tuple[int, int]], last: int) -> None:
        self.schedule, self.last = schedule, last
        self.continue_from(1)

    def continue_from(self, iteration: int) -> None:
        """Set the first iteration at which the next validation may be.

        That of a training entry is possible: it is logged before the validation.
        """
        self._iterations = self._iterations_from(iteration)
        self._at: int | None = None
        self._names: set[str] = set()

    def find_iteration(self, names: set[str]) -> int:
        """Return the iteration of the next log entry of a validation.

        Args:
            names: Names of the values in the entry. Entries without a common name are of one
                validation, such as one for each test set.
        """
        if self._at is None or names & self._names:
            self._at, self._names = next(self._iterations), set()
        self._names |= names
        return self._at

    def _iterations_from(self, iteration: int) -> Iterator[int]:
        """Yield the iterations of the validations; without end."""
        ends = [*(begin for begin, _ in self.schedule[1:]), sys.maxsize]
        for (begin, interval), end in zip(self.schedule, ends, strict=False):
            first = -(-max(begin, iteration) // interval) * interval
            yield from range(first, min(end, self.last or end), interval)
        yield from itertools.repeat(self.last or iteration)
