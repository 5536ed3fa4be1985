"""How things are measured: in interleaved rounds, in fresh processes, and by profiling."""

import cProfile
import pstats
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_KIB_PER_MIB = 1024
_SITE_PACKAGES = "site-packages"
_BUILT_IN = "~"
_WAITS = ("recv", "'poll'", "select", "acquire", "fsync", "sleep")


@dataclass(frozen=True)
class Row:
    """A row of the report: our result, that of the limit, and whether their ratio meets the target."""

    what: str
    ours: str
    limit: str = ""
    ratio: float | None = None
    target: str = ""
    met: bool | None = None

    def cells(self) -> list[str]:
        """Return the row as table cells."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}"
        met = {None: "", True: "yes", False: "**no**"}[self.met]
        return [self.what, self.ours, self.limit, ratio, self.target, met]


HEADER = ["what", "ours", "limit", "ratio", "target", "met"]


def compared(
    what: str, ours: Sequence[float], limits: Mapping[str, Sequence[float]], most: float, *, strictly: bool = False
) -> Row:
    """Compare our seconds per round with those of the fastest limit in the same rounds."""
    fastest = min(limits, key=lambda name: median(limits[name]))
    ratio = median(own / limit for own, limit in zip(ours, limits[fastest], strict=True))
    return Row(
        what,
        seconds(ours),
        "; ".join(f"{name}: {seconds(taken)}" for name, taken in limits.items()),
        ratio,
        f"< {most} ×" if strictly else f"≤ {most} ×",
        ratio < most if strictly else ratio <= most,
    )


def seconds(taken: Sequence[float]) -> str:
    """Return the median as text, with the fastest and the slowest if there are several."""
    middle = median(taken)
    digits = 3 if middle < 1 else 2
    spread = f" ({min(taken):.{digits}f}–{max(taken):.{digits}f})" if len(taken) > 1 else ""
    return f"{middle:.{digits}f} s{spread}"


def timed(task: Callable[Parameters, object], *args: Parameters.args, **kwargs: Parameters.kwargs) -> float:
    """Return the seconds that a call takes."""
    started = perf_counter()
    task(*args, **kwargs)
    return perf_counter() - started


def in_turn(rounds: int, *tasks: Callable[[], float]) -> list[list[float]]:
    """Run the tasks in turn, for several rounds. Each returns its seconds; return them by task."""
    runs = [[task() for task in tasks] for _ in range(rounds)]
    return [list(seconds_of_task) for seconds_of_task in zip(*runs, strict=True)]


def in_fresh_process(task: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
    """Call a function in a fork of a process that has only done the imports."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.__main__"])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(task, *args, **kwargs).result()


def with_peak(
    task: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> tuple[Result, float]:
    """Call a function in a new process. Return its result, and its peak memory in MB above that after the imports."""
    context = get_context("spawn")  # in a fork, libraries would count once they are used
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_with_peak, partial(task, *args, **kwargs)).result()


def _with_peak(task: Callable[[], Result]) -> tuple[Result, float]:
    idle = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak (Linux, proc(5))
    result = task()
    return result, (_memory("VmHWM") - idle) / _KIB_PER_MIB


def memory(what: str, mb: Mapping[int, float], most: float, of: str = "rows") -> Row:
    """Compare the memory by number of rows, or of what they are `of`, with its limit. It must not grow with them."""
    small, large = mb.values()
    return Row(
        what,
        "; ".join(f"{taken:.0f} MB at {number:,} {of}" for number, taken in mb.items()),
        ratio=large / small,
        target=f"≤ {most:.0f} MB, the same at both",
        met=max(mb.values()) <= most and large - small <= max(0.2 * small, 16),
    )


def _memory(which: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == which:
            return int(value.split()[0])
    raise KeyError(which)


def profiled(task: Callable[[], object], shown: int = 12) -> list[list[str]]:
    """Call a function under the profiler. Return its time by package; built-ins count for their caller.

    The profiler slows calls down, so the shares are more reliable than the seconds.
    """
    profiler = cProfile.Profile()
    profiler.runcall(task)
    spent: Counter[str] = Counter()
    stats: Mapping[Any, Any] = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    for (file, _, name), (_, _, own, _, callers) in stats.items():
        if file != _BUILT_IN:
            spent[_package(file)] += own
        else:
            for (caller, _, _), (_, _, part, _) in callers.items():
                spent[_package(caller) + _outside(name)] += part
    total = sum(spent.values())
    return [[package, f"{own:.2f} s", f"{own / total:.0%}"] for package, own in spent.most_common(shown)]


def _outside(builtin: str) -> str:
    """Return a suffix for time spent outside of Python: in SQLite, or waiting."""
    if "sqlite3" in builtin:
        return ", in SQLite"
    return ", waiting" if any(wait in builtin for wait in _WAITS) else ""


def _package(file: str) -> str:
    parts = Path(file).parts
    for root in (_SITE_PACKAGES, "benchmarks", "etl_assets_tests", "etl_assets"):
        if root in parts:
            return parts[parts.index(root) + 1] if root == _SITE_PACKAGES else root
    return f"Python: {parts[-2] if parts[-1] == '__init__.py' else Path(file).stem.strip('<>')}"


def python(code: str, *options: str) -> str:
    """Run code in a new Python process. Return its standard error."""
    command = [sys.executable, *options, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


def imports(code: str, shown: int = 8) -> list[list[str]]:
    """Return the packages that take longest to import, and their own seconds."""
    spent: Counter[str] = Counter()
    for line in python(code, "-X", "importtime").splitlines():
        own, _, name = line.removeprefix("import time:").split("|")
        if own.strip().isdecimal():
            spent[name.strip().partition(".")[0]] += int(own)
    total = spent.total()
    return [[package, f"{own / 1e6:.2f} s", f"{own / total:.0%}"] for package, own in spent.most_common(shown)]
