"""All benchmarks, one after the other, each in a process of its own; their rows become benchmarks/RESULTS.md.

    python -m benchmarks PHOTOS WEIGHTS [NAME …]

PHOTOS: a folder with one folder of photos a class, or in Food-101's layout. WEIGHTS: MobileNetV2's, as a file. NAME:
run these alone, and keep the other rows that are there. Nothing else should run meanwhile. A benchmark that fails is
named in the table, and the exit code is 1.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from extract import extract
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
    "limits": ("PHOTOS", "WEIGHTS"),
    "reading": ("STACK",),
    "accuracy": ("PHOTOS", "WEIGHTS"),
    "colour": ("PHOTOS", "WEIGHTS"),
    "adding": ("PHOTOS",),
    "scale": ("PHOTOS", "WEIGHTS"),
    "stage_two": ("STACK",),
    "neural": ("PHOTOS",),
    "without_weights": ("PHOTOS",),
}


def machine() -> str:
    """Processor, cores and memory, in words."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{names[0] if names else 'unknown processor'}, {cores()} cores, {memory:.0f} GiB"


def lettered(machine: str, before: list[str]) -> dict[str, str]:
    """Letter → machine, of those that the rows of a table were measured on, this one's letter last."""
    known = dict(line.removeprefix("- **").split("**: ", 1) for line in before if line.startswith("- **"))
    letter = next((each for each, there in known.items() if there == machine), chr(ord("A") + len(known)))
    known.pop(letter, None)
    return {**known, letter: machine}


def busy_cores() -> float:
    """How many cores are at work, over three seconds in which this process sleeps."""
    before = os.times().elapsed, _work()
    time.sleep(3)
    return (_work() - before[1]) / os.sysconf("SC_CLK_TCK") / (os.times().elapsed - before[0])


def _work() -> int:
    """Clock ticks that all cores together have spent on work: user, nice, system, and interrupts."""
    user, nice, system, _idle, _wait, *interrupts = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return user + nice + system + sum(interrupts)


def measured(name: str, given: dict[str, str], letter: str) -> list[str]:
    """The rows that one benchmark printed, with its name, the day, the machine, and what went on beside it."""
    words = [sys.executable, "-m", f"benchmarks.{name}", *(given[what] for what in BENCHMARKS[name])]
    by = f" `{name}`, {time.strftime('%Y-%m-%d')}, {letter}, {busy_cores():.1f} beside it |"
    print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    if done.returncode:
        rows.append(f"| {name} | {FAILED} | |")
    print(*rows, sep="\n", flush=True)
    return [row + by for row in rows]


def main(photos: str, weights: str, *names: str) -> int:
    before = RESULTS.read_text().splitlines() if names and RESULTS.exists() else []
    packages = ", ".join(f"{name} {version}" for name, version in row_versions().items())
    machines = lettered(f"{machine()}; {packages}", before)
    letter = list(machines)[-1]
    rows = {name: [line for line in before if f"| `{name}`, " in line] for name in BENCHMARKS}
    with tempfile.TemporaryDirectory() as folder:
        stack = extract(photos, "mobilenetv2", weights=weights, out=f"{folder}/mobilenetv2.h5")
        given = {"PHOTOS": photos, "WEIGHTS": weights, "STACK": str(stack)}
        rows |= {name: measured(name, given, letter) for name in names or BENCHMARKS}
    commands = [f"- `{name}`: `python -m benchmarks.{name} {' '.join(takes)}`" for name, takes in BENCHMARKS.items()]
    text = [
        "# Results",
        "",
        OPENING,
        "",
        *(f"- **{letter}**: {there}" for letter, there in sorted(machines.items())),
        "",
        "| what | measured | bar | by |",
        "|---|---|---|---|",
        *(row for name in BENCHMARKS for row in rows[name]),
        "",
        *commands,
    ]
    RESULTS.write_text("\n".join(text) + "\n")
    print(RESULTS, file=sys.stderr)
    return int(any(FAILED in row for found in rows.values() for row in found))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
