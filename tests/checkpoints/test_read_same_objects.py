"""The safe loader returns objects equal to the saved ones in value and type."""

from collections import Counter, OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from same_state import differences
from torch.optim import lr_scheduler, swa_utils

from srgan_plugin.checkpoints.read_write import load_checkpoint_file


def _with_metadata() -> OrderedDict[str, int]:
    state = OrderedDict(b=1, a=2)
    state._metadata = {"version": np.int64(3)}
    return state


def _with_note() -> torch.Tensor:
    tensor = torch.ones(2)
    tensor.note = [np.arange(2)]
    return tensor


OBJECTS: dict[str, Any] = {
    "Counter": [Counter({10: 1, 20: 2}), {"nested": (Counter("abca"),)}],
    "OrderedDict": [_with_metadata()],
    "defaultdict": [
        defaultdict(list, x=[np.arange(3)]),
        defaultdict(Counter, {1: Counter("ab")}),
        defaultdict(deque, x=deque([np.float32(1)])),
        defaultdict(None, a=1),
    ],
    "deque": [deque([1, (2, np.float64(3))], maxlen=5), deque(), deque([deque([1])])],
    "sets": [{1, (2, np.int64(3))}, frozenset([1, 2.5]), set(), frozenset()],
    "numpy dtypes": [np.dtype("f4"), np.dtype(">i8"), {np.dtype("?"): 1}],
    "numpy scalars": [np.dtype(kind).type(1) for kind in "?bhilBHILefdFD"],
    "numpy arrays": [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3.0),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array([1j]),
        np.random.RandomState(0).get_state(),
    ],
    "torch": [torch.Size([1, 2]), torch.Size([]), torch.bfloat16, torch.device("cuda:1")],
    "tensors": [
        torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.arange(6).reshape(2, 3).t(),
        torch.nn.Parameter(torch.ones(2)),
        torch.zeros(0),
        torch.tensor(float("nan")),
        torch.ones(2, dtype=torch.bfloat16),
        _with_note(),
    ],
    "plain": [None, True, 2**70, -(2**40), -0.0, float("nan"), "ü\ud800", b"", b"\xff", 1j],
    "keys": [{1: 1, (1, np.int64(2)): 2, None: 3, torch.float16: 4}, bytearray(b"a"), bytearray()],
    "types": [int, dict, set, np.ndarray, np.dtype, deque, defaultdict, Counter, bytes],
}


@pytest.mark.parametrize(("zipped", "protocol"), [(True, 2), (False, 2), (True, 5)])
@pytest.mark.parametrize("kind", OBJECTS)
def test_objects_equal_the_saved_ones_after_one_two_and_three_rounds(
    tmp_path: Path, kind: str, zipped: bool, protocol: int
) -> None:
    # Protocol 5 has an opcode for frozensets, which nothing else needs.
    objects = [x for x in OBJECTS[kind] if protocol == 2 or not isinstance(x, frozenset)]
    state, path = {"x": objects}, tmp_path / "x.pth"
    for _ in range(3):
        torch.save(state, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        state = load_checkpoint_file(path)
        assert differences({"x": objects}, state) == []


def test_attributes_of_containers_are_kept(tmp_path: Path) -> None:
    saved = {"x": OBJECTS}
    torch.save(saved, tmp_path / "x.pth")
    loaded = load_checkpoint_file(tmp_path / "x.pth")["x"]
    assert [item.default_factory for item in loaded["defaultdict"]] == [list, Counter, deque, None]
    assert [item.maxlen for item in loaded["deque"]] == [5, None, None]
    assert type(loaded["OrderedDict"][0]._metadata["version"]) is np.int64
    assert list(loaded["OrderedDict"][0]) == ["b", "a"]
    assert loaded["tensors"][-1].note[0].tolist() == [0, 1]


def test_an_object_in_two_places_remains_one_object(tmp_path: Path) -> None:
    shared = deque([np.arange(2)])
    cycle: list[Any] = [shared]
    cycle.append(cycle)
    torch.save({"a": shared, "b": [shared], "c": cycle}, tmp_path / "x.pth")
    loaded = load_checkpoint_file(tmp_path / "x.pth")
    assert loaded["a"] is loaded["b"][0]
    assert loaded["c"][1] is loaded["c"]
    assert loaded["c"][0] is loaded["a"]


class Calls:
    """An object that pickles as the call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call

    def __repr__(self) -> str:  # the test's name, which has to be the same in every process
        function, args = self.call
        return " ".join(getattr(each, "__name__", repr(each)) for each in (function, *args))


@pytest.mark.parametrize(
    "code",
    [
        Calls(defaultdict, torch.zeros),
        Calls(defaultdict, torch.Tensor),
        Calls(defaultdict, getattr),
        Calls(bytes, 10**12),
        Calls(list, (1, 2)),
        Calls(str, b"x", "idna"),
        [getattr],
        [np.array(["x"])],
    ],
    ids=repr,
)
def test_stand_ins_of_plain_types_call_nothing(tmp_path: Path, code: Any) -> None:
    torch.save({"x": code}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x\.pth"):
        load_checkpoint_file(tmp_path / "x.pth")


SCHEDULERS: dict[str, Any] = {
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [3, 7, 7, 13]),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 5),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, total_iters=7),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=7),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 12, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 9),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 6, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 4),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda step: 0.9**step),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda step: 0.9),
    "SWALR": lambda o: swa_utils.SWALR(o, 0.01),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o), lr_scheduler.MultiStepLR(o, [2, 5])], milestones=[4]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(o, total_iters=6), lr_scheduler.MultiStepLR(o, [3, 9])]
    ),
}


@pytest.mark.filterwarnings("ignore")  # of torch's own deprecations
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_of_torch_is_the_same_after_three_resumes_as_without(
    tmp_path: Path, name: str
) -> None:
    def start() -> tuple[torch.optim.SGD, Any]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
        return optimizer, SCHEDULERS[name](optimizer)

    def steps(optimizer: torch.optim.SGD, scheduler: Any, count: int) -> list[float]:
        rates = []
        for _ in range(count):
            optimizer.step()
            scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return rates

    whole, (optimizer, scheduler) = start(), start()
    expected, seen = steps(*whole, 18), steps(optimizer, scheduler, 1)
    for count in (1, 4, 12):  # before the first milestone, twice, and between two
        # Older torch keeps a function of SWALR's there, which our checkpoints leave out.
        kept = {key: value for key, value in scheduler.state_dict().items() if not callable(value)}
        state = {"optimizer": optimizer.state_dict(), "scheduler": kept}
        torch.save(state, tmp_path / "x.pth")
        state = load_checkpoint_file(tmp_path / "x.pth")
        optimizer, scheduler = start()
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        seen += steps(optimizer, scheduler, count)
    assert seen == expected
    assert differences(whole[1].state_dict(), scheduler.state_dict()) == []
