"""One chart of a benchmark's main figures, for the README."""

from pathlib import Path

BARS = {
    "unet": "U-Net of See in the Dark, fp32",
    "eager": "LLPackNet, plain fp32 PyTorch",
    "network_paper": "LLPackNet, llpack's engine",
    "network": "llpack (with detail path)",
    "plain": "file to JPEG, plain pipeline",
    "whole": "file to JPEG, llpack",
}


def draw(results: dict, path: Path) -> None:
    """Horizontal bars of the seconds for 2848x4256; `results` is what `benchmark.bench` returns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    seconds = [results["cases"][name]["seconds"] for name in BARS]
    ours = [name in ("network_paper", "network", "whole") for name in BARS]
    bars = axes.barh(
        list(BARS.values()), seconds, color=["#d97706" if own else "#64748b" for own in ours]
    )
    axes.bar_label(bars, [f"{value:.2f} s" for value in seconds], padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, max(seconds) * 1.15)
    axes.spines[["top", "right"]].set_visible(False)
    machine = results["machine"]
    axes.set_xlabel(f"seconds for 2848x4256, {machine['usable_cpus']} CPUs: {machine['processor']}")
    figure.savefig(path)
