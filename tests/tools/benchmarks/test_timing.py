"""What a benchmark says follows from what was timed."""

import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.chart import draw
from benchmarks.report import format_report, report
from benchmarks.timing import (
    Measurement,
    Result,
    checksum,
    interleave,
    iter_images,
    machine,
    measure_peak,
    time_batches,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.structures import BaseDataElement

CPU = torch.device("cpu")


def test_sides_work_in_turn_and_neither_is_always_first() -> None:
    order = []

    def side(name: str) -> Any:
        def work() -> Measurement:
            order.append(name)
            return Measurement(1.0, 1, 1)

        return work

    results = interleave({"a": side("a"), "b": side("b")}, rounds=3)
    assert "".join(order) == "abbaab"
    assert [(r.name, len(r.rounds)) for r in results] == [("a", 3), ("b", 3)]


def test_a_summary_has_medians_and_spread() -> None:
    rounds = [Measurement(seconds, images=160, steps=10) for seconds in (2.0, 1.0, 9.0)]
    rounds[-1].flops, rounds[-1].peak_bytes, rounds[-1].waited = 10**12, 2**31, 0.25
    summary = Result("x", rounds).summary(peak_flops=10e12)
    assert (summary["ms_per_step"], summary["ms_min"], summary["ms_max"]) == (200, 100, 900)
    assert (summary["images_per_s"], summary["steps_per_s"]) == (80, 5)
    assert summary["ms_per_image"] == 12.5
    assert summary["fraction_of_peak"] == 0.5
    assert (summary["peak_gib"], summary["waiting_for_data"]) == (2, 0.25)


def test_the_ratio_is_their_time_over_ours_and_nothing_is_made_up() -> None:
    ours, theirs = (
        Result(name, [Measurement(s, 16, 1)]) for name, s in (("ours", 1), ("theirs", 3))
    )
    numbers = json.loads(json.dumps(report([ours, theirs], None, what="train")))
    assert numbers["ratio"] == 3
    assert numbers["sides"][0]["fraction_of_peak"] is None
    table = format_report(numbers)
    assert "(time of theirs over that of ours): 3.00" in table
    assert "peak" not in table
    assert "| ours | 1000.00 |" in table
    assert report([ours], None)["ratio"] is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=40))
def test_a_checksum_reads_every_byte(values: list[int]) -> None:
    tensor = torch.tensor(values, dtype=torch.uint8)
    before = checksum(tensor)
    for index in range(len(values)):
        changed = tensor.clone()
        changed[index] ^= 1
        assert checksum(changed) != before


def test_a_checksum_is_the_same_for_the_same_bytes_of_any_type_and_view() -> None:
    batch = torch.rand(2, 3, 4, 4)
    assert checksum(batch) == checksum(batch.view(torch.int32))
    assert checksum(batch) == checksum(batch.permute(0, 2, 3, 1))
    whole = torch.arange(16, dtype=torch.uint8)
    assert checksum(whole) == int(whole.numpy().view(np.uint64).sum())


def test_the_images_of_any_batch_are_found() -> None:
    lr, gt = torch.zeros(2, 3, 1, 1), torch.ones(2, 3, 4, 4)
    mine = {"inputs": lr, "data_samples": BaseDataElement(gt_img=gt)}
    mmagics = {"inputs": list(lr), "data_samples": [BaseDataElement(gt_img=one) for one in gt]}
    basicsrs = {"lq": lr, "gt": gt, "lq_path": ["a", "b"], "gt_path": ["a", "b"]}
    for batch, pieces in ((mine, 2), (mmagics, 4), (basicsrs, 2)):
        found = list(iter_images(batch))
        assert len(found) == pieces
        assert sum(tensor.numel() for tensor in found) == lr.numel() + gt.numel()


@pytest.mark.parametrize("split", [False, True])
def test_images_are_counted_once_however_they_come(split: bool) -> None:
    lr, gt = torch.zeros(4, 3, 1, 1), torch.ones(4, 3, 4, 4)
    batch = {"lq": list(lr), "gt": list(gt)} if split else {"lq": lr, "gt": gt}

    def slowly() -> Any:
        time.sleep(0.01)
        return batch

    took = time_batches((slowly() for _ in itertools.count()), 0.05, CPU)
    assert took.images == 4 * took.steps
    assert 0.05 <= took.seconds < 1
    assert 1 <= took.steps <= 5


def test_the_machine_and_the_versions_are_told() -> None:
    facts = machine(CPU, threads=1)
    assert facts["torch"] == torch.__version__.split("+")[0] or facts["torch"] == torch.__version__
    assert facts["cores"] >= 1
    json.dumps(facts)
    assert measure_peak(CPU) is None


def test_the_chart_shows_every_comparison(tmp_path: Path) -> None:
    for number, ratio in enumerate((2.5, None)):
        sides = [{"name": "srgan_plugin"}, {"name": "mmagic"}][: 2 if ratio else 1]
        machine = {"device": "a card"}
        facts = {"what": "train", "model": "srgan", "machine": machine, "sides": sides}
        (tmp_path / f"{number}.json").write_text(json.dumps({**facts, "ratio": ratio}))
    drawn = draw(tmp_path).read_text()
    assert "train srgan against mmagic" in drawn
    assert "2.5x" in drawn
    assert drawn.count("a card") == 1


def test_a_folder_without_comparisons_has_no_chart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tools/benchmark\.py"):
        draw(tmp_path)
