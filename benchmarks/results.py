"""What the benchmarks share: photos to run on, and a row of benchmarks/RESULTS.md."""

import csv
import random
from pathlib import Path

from features import open_stack


def row(what: str, figure: str, bar: str = "") -> None:
    """Print `| what | figure | bar |`; `python -m benchmarks` gathers these lines into one table."""
    print(f"| {what} | {figure} | {bar} |", flush=True)


def speed(stack: Path) -> float:
    """Images a second of stage one, as a stack records it: from the first image to the last, the network built."""
    made = open_stack(stack)
    return len(made) / made.extract_seconds


def drawn(photos: Path, count: int) -> list[Path]:
    """So many of a folder's photos, drawn with a fixed seed; from the beginning again where there are too few."""
    files = sorted(photos.resolve().rglob("*.jpg"))
    random.Random(0).shuffle(files)
    return [files[i % len(files)] for i in range(count)]


def manifest(photos: Path, count: int, folder: Path) -> Path:
    """A CSV manifest of so many different photos in class folders, a quarter of them test."""
    path = folder / f"{count}.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "split"])
        for i, photo in enumerate(drawn(photos, count)):
            table.writerow([photo, photo.parent.name, "test" if i % 4 == 0 else "train"])
    return path


def linked(photos: Path, count: int, folder: Path) -> Path:
    """A folder with two class folders of links to so many photos."""
    for i, photo in enumerate(drawn(photos, count)):
        place = folder / "ab"[i % 2] / f"{i:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(photo)
    return folder
