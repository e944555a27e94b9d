"""All benchmarks, one after the other, each in a process of its own; their rows become benchmarks/RESULTS.md.

    python -m benchmarks PHOTOS WEIGHTS [NAME …]

PHOTOS: a folder with one folder of photos a class, or in Food-101's layout. WEIGHTS: MobileNetV2's, as a file. NAME:
run these alone, and keep the other rows that are there. Nothing else should run meanwhile. A benchmark that fails is
named in the table, and the exit code is 1.
"""

import subprocess
import sys
import tempfile
import time

from benchmarks.table import BENCHMARKS, FAILED, RESULTS, Table, busy_cores, machine
from extract import extract


def measured(name: str, given: dict[str, str]) -> list[str]:
    """The rows that one benchmark printed."""
    words = [sys.executable, "-m", f"benchmarks.{name}", *(given[what] for what in BENCHMARKS[name])]
    print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    if done.returncode:
        rows.append(f"| {name} | {FAILED} | |")
    print(*rows, sep="\n", flush=True)
    return rows


def main(photos: str, weights: str, *names: str) -> int:
    table = Table(machine())
    with tempfile.TemporaryDirectory() as folder:
        stack = extract(photos, "mobilenetv2", weights=weights, out=f"{folder}/mobilenetv2.h5")
        given = {"PHOTOS": photos, "WEIGHTS": weights, "STACK": str(stack)}
        for name in names or BENCHMARKS:
            beside = busy_cores()
            table.renew(name, measured(name, given), beside)
    table.write()
    print(RESULTS, file=sys.stderr)
    return int(table.has_failed())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
