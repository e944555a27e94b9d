"""benchmarks/RESULTS.md: the rows of every benchmark, with the day and the machine that each was measured on."""

import os
import time
from pathlib import Path

from extract.network.engines import row_versions
from features.runtime.machine import cores

RESULTS = Path(__file__).parent / "RESULTS.md"
OPENING = """\
`make bench DATA=PHOTOS WEIGHTS=WEIGHTS` writes this table; `python -m benchmarks PHOTOS WEIGHTS NAME …` renews some rows.
STACK is MobileNetV2's stack of PHOTOS with WEIGHTS. A bar is the aim that was set before measuring. "Beside it" is the
number of cores that other work kept busy in the three seconds before. The machines:"""  # noqa: E501
FAILED = "failed"
# name → what it takes: photos, weights, or the stack of the two
BENCHMARKS = {
    "engines": ("PHOTOS", "WEIGHTS"),
    "starting": ("PHOTOS", "WEIGHTS"),
    "model_files": ("PHOTOS", "WEIGHTS"),
    "limits": ("PHOTOS", "WEIGHTS"),
    "reading": ("STACK",),
    "accuracy": ("PHOTOS", "WEIGHTS"),
    "colour": ("PHOTOS", "WEIGHTS"),
    "familiar": ("PHOTOS", "WEIGHTS"),
    "audit": ("PHOTOS", "WEIGHTS"),
    "near": ("PHOTOS", "WEIGHTS"),
    "exported": ("PHOTOS", "WEIGHTS"),
    "adding": ("PHOTOS",),
    "scale": ("PHOTOS", "WEIGHTS"),
    "stage_two": ("STACK",),
    "which": ("PHOTOS", "WEIGHTS"),
    "growth": ("PHOTOS", "WEIGHTS"),
    "neural": ("PHOTOS",),
    "without_weights": ("PHOTOS",),
}
APART = ("gpu",)  # these are run by themselves, on another machine


class Table:
    """The rows that are there, some of them renewed on this machine.

    Args:
        machine: what is measured on, in words; the versions of the packages are added.
    """

    def __init__(self, machine: str) -> None:
        packages = ", ".join(f"{name} {version}" for name, version in row_versions().items())
        before = RESULTS.read_text().splitlines() if RESULTS.exists() else []
        self._machines = lettered(f"{machine}; {packages}", before)
        self._letter = list(self._machines)[-1]
        self._rows = {name: [line for line in before if f"| `{name}`, " in line] for name in (*BENCHMARKS, *APART)}

    def renew(self, name: str, measured: list[str], beside: float) -> None:
        """Put a benchmark's rows in the place of those that it had.

        Args:
            name: of the benchmark.
            measured: `| what | figure | bar |` lines.
            beside: cores that other work kept busy.
        """
        by = f" `{name}`, {time.strftime('%Y-%m-%d')}, {self._letter}, {beside:.1f} beside it |"
        self._rows[name] = [row + by for row in measured]

    def write(self) -> None:
        """Write the file."""
        commands = [
            f"- `{name}`: `python -m benchmarks.{name} {' '.join(takes)}`" for name, takes in BENCHMARKS.items()
        ]
        commands.append("- `gpu`: `python -m benchmarks.gpu` in the folder that `make gpu-kit WEIGHTS=WEIGHTS` gathers")
        rows = [row for found in self._rows.values() for row in found]
        used = {name: there for name, there in self._machines.items() if any(f", {name}, " in row for row in rows)}
        text = [
            "# Results",
            "",
            OPENING,
            "",
            *(f"- **{letter}**: {there}" for letter, there in sorted(used.items())),
            "",
            "| what | measured | bar | by |",
            "|---|---|---|---|",
            *rows,
            "",
            *commands,
        ]
        RESULTS.write_text("\n".join(text) + "\n", encoding="utf-8")

    def has_failed(self) -> bool:
        """Whether a benchmark ended with an error."""
        return any(FAILED in row for found in self._rows.values() for row in found)


def lettered(machine: str, before: list[str]) -> dict[str, str]:
    """Letter → machine, of those that the rows of a table were measured on, this one's letter last."""
    known = dict(line.removeprefix("- **").split("**: ", 1) for line in before if line.startswith("- **"))
    letter = next((each for each, there in known.items() if there == machine), chr(ord("A") + len(known)))
    known.pop(letter, None)
    return {**known, letter: machine}


def machine() -> str:
    """Processor, cores and memory, in words."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{names[0] if names else 'unknown processor'}, {cores()} cores, {memory:.0f} GiB"


def busy_cores() -> float:
    """How many cores are at work, over three seconds in which this process sleeps."""
    before = os.times().elapsed, _work()
    time.sleep(3)
    return (_work() - before[1]) / os.sysconf("SC_CLK_TCK") / (os.times().elapsed - before[0])


def _work() -> int:
    """Clock ticks that all cores together have spent on work: user, nice, system, and interrupts."""
    user, nice, system, _idle, _wait, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return user + nice + system + sum(interrupts)
