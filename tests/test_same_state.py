"""The comparison of checkpoints that other tests rely on finds what differs, and nothing else."""

from collections import Counter, OrderedDict, defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from same_state import differences


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        ({"a": [1, 2]}, {"a": [1, 3]}, "['a'][1]: 2 != 3"),
        ({"a": 1}, {"a": True}, "int 1 != bool True"),
        ({"a": 1}, {"a": 1, "b": 5}, "['b']: only in actual, 5"),
        ({"a": 1, "b": 5}, {"a": 1}, "['b']: only in expected, 5"),
        ({1: 2}, Counter({1: 2}), "Counter"),
        (Counter({9: 1}), Counter({9: 2}), "[9]: 1 != 2"),
        (OrderedDict(a=1), {"a": 1}, "OrderedDict"),
        (defaultdict(int, a=1), defaultdict(int, a=2), "['a']: 1 != 2"),
        ((1, 2), [1, 2], "tuple (1, 2) != list [1, 2]"),
        ([1], [1, 2], "1 items != 2 items"),
        ({1, 2}, {2, 3}, "['1'] != ['3']"),
        (0.1, np.float64(0.1), "float64"),
        (0.1, 0.1 + 1e-16, "!= 0.1"),
        (torch.zeros(3), torch.zeros(3).double(), "dtype"),
        (torch.zeros(3), torch.zeros(1, 3), "shape"),
        (torch.zeros(2, 3), torch.zeros(3, 2).t(), "stride (3, 1) != (1, 2)"),
        (torch.zeros(3), torch.tensor([0, 2.0, 1]), "2 of 3 elements differ, by up to 2; first"),
        (torch.tensor(float("nan")), torch.tensor(1.0), "1 of 1 elements"),
        (torch.zeros(1, dtype=torch.bfloat16), torch.ones(1, dtype=torch.bfloat16), "1 of 1"),
        (torch.tensor([True]), torch.tensor([False]), "1 of 1"),
        (np.arange(3), np.array([0, 1, 3]), "first [2]"),
        (SimpleNamespace(x=[1]), SimpleNamespace(x=[2]), "['SimpleNamespace']['x'][0]: 1 != 2"),
        (len, min, "len"),
    ],
)  # fmt: skip
def test_each_difference_is_named_by_its_path_and_both_values(
    expected: Any, actual: Any, words: str
) -> None:
    (line,) = differences(expected, actual)
    assert words in line
    assert not differences(expected, expected)


def test_nan_equals_nan_order_is_free_and_what_is_ignored_is_not_missed() -> None:
    nan = float("nan")
    left: Any = {"a": {"time": 1.0, "x": nan}, "b": np.array([nan])}
    right: Any = {"b": np.array([nan]), "a": {"x": nan}}
    assert not differences(left, right, ignore=(("a", "time"),))


def test_a_tolerance_holds_for_numbers_and_elements() -> None:
    left, right = {"a": 1.0, "b": torch.ones(2)}, {"a": 1.001, "b": torch.ones(2) * 1.001}
    assert len(differences(left, right)) == 2
    assert not differences(left, right, atol=0.01)
