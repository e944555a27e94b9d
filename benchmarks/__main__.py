"""All benchmarks, one after the other, each in a process of its own; their rows become benchmarks/RESULTS.md.

    python -m benchmarks PHOTOS WEIGHTS

PHOTOS: a folder with one folder of photos a class, or in Food-101's layout. WEIGHTS: MobileNetV2's, as a file. Nothing
else should run meanwhile. A benchmark that fails is named in the table, and the exit code is 1.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from extract import extract
from extract.engines import cores, versions

RESULTS = Path(__file__).parent / "RESULTS.md"
# name → what it takes: photos, weights, or the stack of the two
BENCHMARKS = {
    "engines": ("PHOTOS", "WEIGHTS"),
    "limits": ("PHOTOS", "WEIGHTS"),
    "reading": ("STACK",),
    "accuracy": ("PHOTOS", "WEIGHTS"),
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


def main(photos: str, weights: str) -> int:
    rows: list[str] = []
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        stack = extract(photos, "mobilenetv2", weights=weights, out=f"{folder}/mobilenetv2.h5")
        given = {"PHOTOS": photos, "WEIGHTS": weights, "STACK": str(stack)}
        began, load = time.strftime("%Y-%m-%d"), os.getloadavg()[0]
        for name, takes in BENCHMARKS.items():
            words = [sys.executable, "-m", f"benchmarks.{name}", *(given[what] for what in takes)]
            print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
            found = [line for line in done.stdout.splitlines() if line.startswith("| ")]
            if done.returncode:
                failed += 1
                found.append(f"| {name} | failed | |")
            rows += [f"{line} `{name}` |" for line in found]
            print(*found, sep="\n", flush=True)
    commands = [f"- `{name}`: `python -m benchmarks.{name} {' '.join(takes)}`" for name, takes in BENCHMARKS.items()]
    text = [
        "# Results",
        "",
        "Written by `make bench DATA=PHOTOS WEIGHTS=WEIGHTS`. A bar is what was aimed at before measuring.",
        "",
        f"{machine()}; load {load:.1f} when it began; {began}; "
        + ", ".join(f"{name} {version}" for name, version in versions().items())
        + ".",
        "",
        "| what | measured | bar | by |",
        "|---|---|---|---|",
        *rows,
        "",
        *commands,
    ]
    RESULTS.write_text("\n".join(text) + "\n")
    print(f"{RESULTS}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
