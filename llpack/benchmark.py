"""Speed and memory against the machine's own limit and against peers, all in one run.

Every case runs in a process of its own, which reports medians and its peak memory, so that no case
profits from or pays for another. All cases take turns, for several rounds: a machine's speed drifts,
so a ratio is taken within a round. It drifts within seconds, too, so the machine's limit is measured
between the runs of the network that is held against it. Quote ratios, medians over the rounds; absolute
times belong to one machine on one day.
"""

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from llpack.machine import peak_memory_mib, usable_cpus
from llpack.synthetic import darken, write_dark

SIZES = {3: (2128, 1424), 12: (4256, 2848), 24: (6016, 4016), 45: (8256, 5504), 61: (9504, 6336)}
CAMERA, RATIO, ISO = "Sony A7S II", 100.0, 1600.0
MAIN_SIZE = 12
ROUNDS = 5
REPEATS = 3  # of a case in one round
UNCOUNTED = 2  # runs before them; the second one still gets some of its memory from the system
ONCE = ("import", "unet")  # in the first round only: one takes no time, the other would take minutes
LIMIT_SIDE = 4096  # of the matrices whose product gives the machine's limit


def bench_photo(width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: a made-up scene, smooth areas and edges, the same on every machine."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    photo = np.stack([x / width, y / height, (x + y) / (width + height)], -1) * 180
    for _ in range(60):
        top, left = rng.integers(height), rng.integers(width)
        photo[top : top + height // 8, left : left + width // 8] = rng.integers(0, 256, 3)
    return photo.astype(np.uint8)


def write_bench_file(path: Path, size: tuple[int, int]) -> None:
    frame = darken(bench_photo(*size), camera=CAMERA, iso=ISO, ratio=RATIO)
    write_dark(path, frame, CAMERA, compress=False)


def median_seconds(work, repeats: int) -> float:
    """Median of `repeats` runs after those that do not count."""
    for _ in range(UNCOUNTED):
        work()
    return statistics.median(_seconds(work) for _ in range(repeats))


def _seconds(work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def case_import(path: Path, repeats: int) -> dict:
    """A process that has only imported torch: what the memory of the others is counted from."""
    return {"seconds": 0.0}


def case_network(
    path: Path, repeats: int, weights: str = "embedded", precision: str | None = None
) -> dict:
    """Our engine's network stage alone, in the precision it chooses, in turns with matrix products:
    the machine's limit in this precision and in bfloat16, 1e9 multiply-adds a second."""
    from llpack.engine import load_restorer
    from llpack.network import multiply_adds
    from llpack.raw import read_raw

    frame, restorer = read_raw(path), load_restorer(weights, precision)
    for _ in range(UNCOUNTED):
        restorer.restore(frame, RATIO)
    peak = peak_memory_mib()  # before the large matrices
    products = {name: _product(name) for name in {restorer.precision, "bfloat16"}}
    for product in products.values():
        product()
    seconds, product_seconds = [], {name: [] for name in products}
    for _ in range(repeats):
        for name, product in products.items():
            product_seconds[name].append(_seconds(product))
        seconds.append(restorer.restore(frame, RATIO).stages.seconds["network"])
    limits = {
        f"limit_{name}": LIMIT_SIDE**3 / statistics.median(found) / 1e9
        for name, found in product_seconds.items()
    }
    return {
        "seconds": statistics.median(seconds),
        "precision": restorer.precision,
        "gmac": multiply_adds(restorer.weights.network, frame.height, frame.width) / 1e9,
        "peak_mib": peak,
        **limits,
    }


def _product(precision: str):
    """A function that multiplies two large matrices in float32, bfloat16 or int8, the last by the
    operators that `quantised` computes with."""
    import torch

    if precision != "int8":
        a = torch.ones(LIMIT_SIDE, LIMIT_SIDE, dtype=getattr(torch, precision))
        return lambda: a @ a
    a, b = (torch.ones(LIMIT_SIDE, LIMIT_SIDE, dtype=dtype) for dtype in (torch.uint8, torch.int8))
    packed, scale = torch.ops.onednn.qlinear_prepack(b, None), torch.full((LIMIT_SIDE,), 1e-3)
    weight = packed, scale, torch.zeros(LIMIT_SIDE, dtype=torch.int64), None
    result = 1.0, 0, torch.uint8, "none", [], ""
    return lambda: torch.ops.onednn.qlinear_pointwise(a, 1.0, 0, *weight, *result)


def case_eager(path: Path, repeats: int) -> dict:
    """The paper's network as its authors run it: plain float32 PyTorch on the whole frame."""
    import torch

    from llpack.amplifier import amplify
    from llpack.raw import read_raw
    from llpack.weights import load_weights

    network, frame = load_weights("paper").network, read_raw(path)
    mosaic = amplify(frame, RATIO, slice(0, frame.height))
    with torch.no_grad():
        return {"seconds": median_seconds(lambda: network(mosaic), repeats)}


def case_unet(path: Path, repeats: int) -> dict:
    """The U-Net of See in the Dark, random weights."""
    import torch

    from llpack.peers import SeeInTheDarkNet
    from llpack.raw import read_raw

    network, frame = SeeInTheDarkNet().eval(), read_raw(path)
    mosaic = torch.zeros(1, 1, frame.height // 32 * 32, frame.width // 32 * 32)
    with torch.no_grad():
        return {"seconds": median_seconds(lambda: network(mosaic), repeats)}


def case_whole(
    path: Path, repeats: int, weights: str = "embedded", precision: str | None = None
) -> dict:
    """File on disk to JPEG on disk, ours; `held_mib` is the mosaic and the finished picture."""
    from llpack.engine import load_restorer
    from llpack.files import write_picture
    from llpack.raw import read_raw

    restorer, target = load_restorer(weights, precision), path.with_suffix(".jpg")

    def work() -> None:
        frame = read_raw(path)
        restored = restorer.restore(frame, RATIO)
        write_picture(target, restored.picture, frame.exif, format="jpg")

    seconds = median_seconds(work, repeats)
    frame = read_raw(path)
    return {"seconds": seconds, "held_mib": frame.mosaic.size * (2 + 3) / 2**20}


def case_plain(path: Path, repeats: int) -> dict:
    """File on disk to JPEG on disk, the authors' pipeline written out plainly."""
    from llpack.peers import plain_pipeline
    from llpack.weights import load_weights

    network, target = load_weights("paper").network, path.with_suffix(".jpg")
    return {"seconds": median_seconds(lambda: plain_pipeline(network, path, target, RATIO), repeats)}


# In the order in which they run: what is compared stands close together, as machines drift.
CASES = {
    "import": case_import,
    "unet": case_unet,
    "whole_paper": partial(case_whole, weights="paper"),
    "network_paper": partial(case_network, weights="paper"),
    "eager": case_eager,
    "network": case_network,
    "whole": case_whole,
    "plain": case_plain,
    "whole_bfloat16": partial(case_whole, precision="bfloat16"),
    "network_bfloat16": partial(case_network, precision="bfloat16"),
    "network_paper_float32": partial(case_network, weights="paper", precision="float32"),
    "network_float32": partial(case_network, precision="float32"),
    "whole_float32": partial(case_whole, precision="float32"),
}


def run_case(name: str, path: Path, threads: int, repeats: int) -> dict:
    """One case in a process of its own, bound to `threads` processors."""
    command = [sys.executable, "-m", "llpack.benchmark", name, str(path), str(threads), str(repeats)]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode:
        raise RuntimeError(f"benchmark case {name} failed: {answer.stderr[-500:]}")
    return json.loads(answer.stdout.splitlines()[-1])


def _child(name: str, path: str, threads: str, repeats: str) -> None:
    import os

    import torch

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(threads)])
    torch.set_num_threads(int(threads))
    result = CASES[name](Path(path), int(repeats))
    print(json.dumps({"peak_mib": peak_memory_mib()} | result))


def machine() -> dict:
    """What the numbers belong to."""
    import torch

    model = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
        flags = next(line for line in lines if line.startswith("flags")).split()
    except (OSError, StopIteration):
        flags = []
    return {
        "processor": model,
        "usable_cpus": usable_cpus(),
        "bf16": [flag for flag in ("avx512_bf16", "amx_bf16") if flag in flags],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.platform(),
    }


def bench(sizes: list[int], report=print) -> dict:
    """All cases; returns everything measured, for JSON, and reports a line as each one ends.

    "rounds" holds what each round found, "cases" the medians, "ratios" the medians of the rounds' own
    ratios and "ranges" the lowest and the highest of them.
    """
    threads = usable_cpus()
    results: dict = {"machine": machine(), "rounds": [], "growth": {}, "threads": {}}
    with tempfile.TemporaryDirectory() as folder:
        files = {size: Path(folder) / f"{size}mp.dng" for size in sorted({*sizes, MAIN_SIZE})}
        for size, path in files.items():
            write_bench_file(path, SIZES[size])
        for number in range(ROUNDS):
            found = results["rounds"][0].copy() if number else {}
            for name in CASES:
                if number == 0 or name not in ONCE:
                    found[name] = run_case(name, files[MAIN_SIZE], threads, REPEATS)
                    report(_line(name, MAIN_SIZE, threads, found[name]))
            results["rounds"].append(found)
        for size in sizes:
            for name in ("network", "whole"):
                found = run_case(name, files[size], threads, 3)
                results["growth"].setdefault(name, {})[size] = found
                report(_line(name, size, threads, found))
        for count in range(1, threads):
            for name in ("network", "whole", "eager"):
                found = run_case(name, files[MAIN_SIZE], count, 3)
                results["threads"].setdefault(name, {})[count] = found
                report(_line(name, MAIN_SIZE, count, found))
    results["cases"] = {name: _typical([one[name] for one in results["rounds"]]) for name in CASES}
    found = [ratios(one, results["growth"]) for one in results["rounds"]]
    results["ratios"] = _typical(found)
    results["ranges"] = {
        name: [min(one[name] for one in found), max(one[name] for one in found)] for name in found[0]
    }
    return results


def _typical(found: list[dict]) -> dict:
    """Medians of all numbers; what is no number is the same in all."""
    return {
        name: value if isinstance(value, str) else statistics.median(one[name] for one in found)
        for name, value in found[0].items()
    }


def _line(name: str, size: int, threads: int, found: dict) -> str:
    return (
        f"{name:<22} {size:>3} MP  {threads} threads  "
        f"{found['seconds']:7.3f} s  peak {found['peak_mib']:6.0f} MiB"
    )


def ratios(cases: dict, growth: dict) -> dict[str, float]:
    """The figures to quote, of one round and of the growth with size."""
    base = cases["import"]["peak_mib"]

    def over_limit(name: str, precision: str | None = None) -> float:
        case = cases[name]
        return case["seconds"] * case[f"limit_{precision or case['precision']}"] / case["gmac"]

    figures = {
        "network, times the limit in bfloat16": over_limit("network", "bfloat16"),
        "paper's network, times the limit in bfloat16": over_limit("network_paper", "bfloat16"),
        "network, times the limit in its own precision": over_limit("network"),
        "paper's network, times the limit in its own precision": over_limit("network_paper"),
        "bfloat16 network, times the limit in bfloat16": over_limit("network_bfloat16"),
        "float32 network, times the limit in float32": over_limit("network_float32"),
        "paper's float32 network, times the limit in float32": over_limit("network_paper_float32"),
        "network, faster than the authors' plain one": _ratio(cases, "eager", "network"),
        "paper's network, faster than the authors' plain one": _ratio(cases, "eager", "network_paper"),
        "network, faster than the U-Net of See in the Dark": _ratio(cases, "unet", "network"),
        "whole path, faster than the plain pipeline": _ratio(cases, "plain", "whole"),
        "paper's whole path, faster than the plain pipeline": _ratio(cases, "plain", "whole_paper"),
        "whole path, times the network alone": _ratio(cases, "whole", "network"),
        "bfloat16 whole path, times the bfloat16 network": _ratio(
            cases, "whole_bfloat16", "network_bfloat16"
        ),
        "float32 whole path, times the float32 network": _ratio(
            cases, "whole_float32", "network_float32"
        ),
        "memory of the whole path, share of the plain pipeline's": (
            (cases["whole"]["peak_mib"] - base) / (cases["plain"]["peak_mib"] - base)
        ),
    }
    grown = {
        size: found["peak_mib"] - base - found["held_mib"]
        for size, found in growth.get("whole", {}).items()
    }
    if 61 in grown and MAIN_SIZE in grown:
        figures["working memory at 61 MP, times that at 12 MP"] = grown[61] / grown[MAIN_SIZE]
    return figures


def _ratio(cases: dict, slow: str, fast: str) -> float:
    return cases[slow]["seconds"] / cases[fast]["seconds"]


if __name__ == "__main__":
    _child(*sys.argv[1:])
