"""Scores of many pictures: one CSV line each, and tables of means that name what was scored."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from llpack.metrics import Score

AMPLIFIED = "LibRaw, amplified"
NON_LOCAL_MEANS = "LibRaw, amplified, non-local means"
TRUE_RATIO = "restored, true ratio"
ESTIMATED = "restored, estimated"

# Column of the tables -> what it is the mean of, and its decimals.
_COLUMNS: dict[str, tuple[str, int]] = {
    "PSNR": ("psnr", 2),
    "SSIM": ("ssim", 4),
    "PSNR, brightness aligned": ("aligned_psnr", 2),
    "CIEDE2000": ("ciede2000", 2),
    "CIEDE2000, 95 %": ("ciede2000_p95", 2),
}


@dataclass(frozen=True)
class Row:
    """One picture's score.

    set : "See-in-the-Dark" or "synthetic"
    restricted : whether it counts in the restricted mean
    amplification : with which the picture was made, in the end
    seconds, peak_memory_mib : of the restoration; None for LibRaw's pictures
    """

    set: str
    image: str
    camera: str
    ratio: float
    restricted: bool
    method: str
    amplification: float
    score: Score
    seconds: float | None = None
    peak_memory_mib: float | None = None

    @property
    def group(self) -> str:
        """The set of pictures that a mean is taken over, in words."""
        return f"{self.set}, {self.camera}, x{self.ratio:.4g}"

    @property
    def stops_off(self) -> float:
        """How much brighter than the exposure ratio it was amplified, in stops."""
        return math.log2(self.amplification / self.ratio)

    def record(self) -> dict[str, object]:
        """The CSV line."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        values |= dataclasses.asdict(values.pop("score")) | {"stops_off": self.stops_off}
        return {key: _short(value) for key, value in values.items()}


def _short(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return f"{value:.5g}" if isinstance(value, float) else value


def report(rows: Sequence[Row]) -> str:
    """Markdown: means by set and method, the amplifier's error, the colour of neutral shadows."""
    parts = [means_table(rows), amplifier_table(rows), shadow_table(rows)]
    return "\n".join(part for part in parts if part)


def means_table(rows: Iterable[Row]) -> str:
    """Means of every method in every set; See-in-the-Dark also as a whole, and restricted."""
    lines = []
    for group, members in _groups(rows).items():
        for method, scored in _by(members, lambda row: row.method).items():
            means = (
                f"{statistics.fmean(getattr(row.score, name) for row in scored):.{decimals}f}"
                for name, decimals in _COLUMNS.values()
            )
            lines.append((group, method, str(len(scored)), *means))
    return _markdown(("set", "method", "pictures", *_COLUMNS), lines)


def amplifier_table(rows: Iterable[Row]) -> str:
    """Median error of the estimated amplification in stops; empty when none was estimated."""
    lines = []
    estimated = [row for row in rows if row.method == ESTIMATED]
    for group, members in (_groups(estimated) | _by(estimated, _whole)).items():
        errors = [row.stops_off for row in members]
        median = statistics.median(map(abs, errors))
        near = sum(abs(error) <= 0.5 for error in errors) / len(errors)
        numbers = (f"{median:.2f}", f"{statistics.fmean(errors):+.2f}", f"{near:.0%}")
        lines.append((group, str(len(members)), *numbers))
    columns = ("set", "frames", "amplifier's median error, stops", "bias", "within half a stop")
    return _markdown(columns, lines)


def shadow_table(rows: Iterable[Row]) -> str:
    """Colour cast of the darkest tenth, where the truth is neutral there; true ratio only."""
    lines = []
    neutral = [row for row in rows if row.method == TRUE_RATIO and row.score.neutral_shadows]
    for group, members in _groups(neutral).items():
        shifts = [(row.score.shadow_a, row.score.shadow_b) for row in members]
        means = (f"{statistics.fmean(axis):+.2f}" for axis in zip(*shifts, strict=True))
        worst = max(max(abs(a), abs(b)) for a, b in shifts)
        lines.append((group, str(len(members)), *means, f"{worst:.1f}"))
    return _markdown(("set", "scenes with neutral shadows", "a*", "b*", "largest"), lines)


def inference_line(rows: Iterable[Row]) -> str:
    """The one line that the authors' `inference.py` writes to `inference.txt`: mean PSNR and SSIM
    with the true ratio, of all test images and without the three misaligned scenes."""
    scored = [row for row in rows if row.method == TRUE_RATIO]
    restricted = [row for row in scored if row.restricted]
    return ", ".join(
        f"{name}_avg{suffix} = {_mean(getattr(row.score, name) for row in members):.4f}"
        for suffix, members in (("", scored), ("_restricted", restricted))
        for name in ("psnr", "ssim")
    )


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return statistics.fmean(values) if values else math.nan


def _groups(rows: Iterable[Row]) -> dict[str, list[Row]]:
    rows = list(rows)
    groups = _by(rows, lambda row: row.group)
    for row_set, members in _by(rows, lambda row: row.set).items():
        if row_set != "synthetic":
            restricted = [row for row in members if row.restricted]
            groups |= {f"{row_set}, all": members, f"{row_set}, restricted": restricted}
    return {group: members for group, members in groups.items() if members}


def _whole(row: Row) -> str:
    return f"{row.set}, all frames"


def _by(rows: Iterable[Row], key: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Rows by a key, in the order in which the keys first appear."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups


def _markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; nothing without lines."""
    if not lines:
        return ""
    rows = [columns, ["---"] * len(columns), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
