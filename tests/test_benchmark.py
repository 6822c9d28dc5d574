"""The benchmark's bookkeeping: turns, medians and ratios. What it measures is never tested."""

import statistics

import pytest

from llpack import benchmark


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """A benchmark whose cases take made-up seconds; the machine gets slower from round to round."""
    calls = []

    def run_case(name, path, threads, repeats):
        calls.append((name, path.name, threads))
        speed = 1 + sum(one == calls[-1] for one in calls)
        seconds = speed * {"plain": 4.0, "whole": 2.0, "eager": 3.0}.get(name, 1.0)
        mebibytes = {"import": 100, "plain": 500, "whole": 300}.get(name, 200)
        return {
            "seconds": seconds,
            "peak_mib": mebibytes + 20 * ("61mp" in path.name),
            "precision": "float32" if "float32" in name else "int8",
            "gmac": 80.0,
            "limit_float32": 100.0,
            "limit_bfloat16": 50.0,
            "limit_int8": 400.0,
            "held_mib": 50.0,
        }

    monkeypatch.setattr(benchmark, "run_case", run_case)
    monkeypatch.setattr(benchmark, "write_bench_file", lambda path, size: None)
    monkeypatch.setattr(benchmark, "usable_cpus", lambda: 2)
    return benchmark.bench([12, 61], report=lambda line: None), calls


def test_cases_take_turns(measured):
    results, calls = measured
    names = [name for name, _, _ in calls]
    first = list(benchmark.CASES)
    later = [name for name in first if name not in benchmark.ONCE]
    assert names[: len(first)] == first
    for number in range(1, benchmark.ROUNDS):
        start = len(first) + (number - 1) * len(later)
        assert names[start : start + len(later)] == later
    assert len(results["rounds"]) == benchmark.ROUNDS >= 5


def test_figures_are_medians_over_the_rounds(measured):
    results, _ = measured
    seconds = [one["whole"]["seconds"] for one in results["rounds"]]
    assert seconds == sorted(seconds) and len(set(seconds)) == benchmark.ROUNDS
    assert results["cases"]["whole"]["seconds"] == statistics.median(seconds)
    assert results["cases"]["whole"]["precision"] == "int8"


def test_a_ratio_is_not_moved_by_a_machine_that_gets_slower(measured):
    results, _ = measured
    name = "whole path, faster than the plain pipeline"
    assert results["ratios"][name] == 2.0
    assert results["ranges"][name] == [2.0, 2.0]
    assert results["ratios"]["memory of the whole path, share of the plain pipeline's"] == 0.5


def test_limits_are_those_of_the_precision(measured):
    results, _ = measured
    # 80e9 multiply-adds take 0.2 s at the rate of 8 bits and 1.6 s at that of bfloat16.
    seconds = results["rounds"][0]["network"]["seconds"]
    ratios = benchmark.ratios(results["rounds"][0], {})
    assert ratios["network, times the limit in its own precision"] == pytest.approx(seconds / 0.2)
    assert ratios["network, times the limit in bfloat16"] == pytest.approx(seconds / 1.6)
    seconds = results["rounds"][0]["network_float32"]["seconds"]
    assert ratios["float32 network, times the limit in float32"] == pytest.approx(seconds / 0.8)


def test_growth_leaves_out_what_must_be_held(measured):
    results, _ = measured
    name = "working memory at 61 MP, times that at 12 MP"
    assert results["ratios"][name] == pytest.approx((320 - 100 - 50) / (300 - 100 - 50))
