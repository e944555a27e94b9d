"""The report's words: the verdict, and the format of numbers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

ALPHA = 0.05
THIN = "\N{NARROW NO-BREAK SPACE}"


def verdict(rows: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    """The result in one sentence, its interval, and which differences are more than chance.

    Args:
        rows: of `compare.json`, best first.
    """
    best = rows[0]
    lead = best["leads_by"]
    low, high = best[f"{lead}_interval"]
    of = f"{best['n_test']:,} test images" if lead == "accuracy" else "a class’s test images, averaged over classes"
    what = f"right on {percent(best[lead])} of {of}"
    around = f"95{THIN}% interval {percent(low)} to {percent(high)}"
    text = " ".join(_against_baseline(rows))
    tied = [row["model"] for i, row in enumerate(rows) if not i or row.get("tied")]
    if len(tied) == 1:
        return f"{capital(best['title'])} is {what}", around, text
    around = f"The best, {best['title']}, is {what}, {around}"
    if len(tied) == len(rows):
        return "Tied: nothing here differs significantly from the best", around, text
    return f"Tied in the lead: {joined(tied)}", around, text


def _against_baseline(rows: Sequence[dict[str, Any]]) -> list[str]:
    best = rows[0]
    if len(rows) == 1:
        return ["It was compared with no other model."]
    base = best["baseline"]
    said = []
    if best["difference"] is None:
        said.append("It is also the baseline that the others are tested against.")
    else:
        low, high = best["difference_interval"]
        chance = "a significant difference" if best["mcnemar_holm_p"] < ALPHA else "not a significant difference"
        gain = f"{points(best['difference'])} points (interval {points(low)} to {points(high)})"
        said.append(f"Against {base} that is {gain}, {chance} (p{THIN}{equals(best['mcnemar_holm_p'])}).")
    others = [row for row in rows[1:] if row["difference"] is not None]
    apart = [row for row in others if row["mcnemar_holm_p"] < ALPHA]
    groups = [
        ("significantly better", [row["model"] for row in apart if row["difference"] > 0]),
        ("significantly worse", [row["model"] for row in apart if row["difference"] < 0]),
        ("not significantly different", [row["model"] for row in others if row not in apart]),
    ]
    clauses = [f"{joined(names)} {'is' if len(names) == 1 else 'are'} {what}" for what, names in groups if names]
    if clauses:
        said.append(f"Of the others, {'; '.join(clauses)}.")
    return said


def joined(words: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def separation(row: dict[str, Any]) -> str:
    """Whether a model's confidence tells its right answers from its wrong ones."""
    if row["separation"] is None:
        return "too few right or wrong answers to say whether its confidence separates them"
    if not row["separates"]:
        return f"its confidence does not separate right from wrong ({interval(row['separation_interval'])})"
    return f"separation {percent(row['separation'])} ({interval(row['separation_interval'])})"


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Sorts names as people do: class 2 before class 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def capital(words: str) -> str:
    """The words with their first letter raised; `SVM` stays as it is."""
    return words[:1].upper() + words[1:]


def percent(share: float) -> str:
    return f"{100 * share:.1f}{THIN}%"


def points(difference: float) -> str:
    """A difference of shares in percentage points, signed."""
    text = f"{100 * difference:+.1f}"
    return text.replace("-", "−") if float(text) else "0.0"


def equals(p: float) -> str:
    """A p-value with the sign before it."""
    return f"<{THIN}0.001" if p < 0.001 else f"={THIN}{p:.2f}" if p >= 0.1 else f"={THIN}{p:.3f}"


def p_value(p: float) -> str:
    return equals(p).removeprefix(f"={THIN}")


def seconds(value: float) -> str:
    if value < 10:
        return f"{value:.2g}{THIN}s" if value < 1 else f"{value:.1f}{THIN}s"
    if value < 100:
        return f"{value:.0f}{THIN}s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}{THIN}min {rest}{THIN}s"
    return f"{minutes // 60}{THIN}h {minutes % 60}{THIN}min"


def megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f}{THIN}MB" if size < 1e8 else f"{size / 1e6:,.0f}{THIN}MB"


def interval(ends: Sequence[float]) -> str:
    return f"{100 * ends[0]:.1f}–{percent(ends[1])}"


def points_interval(ends: Sequence[float]) -> str:
    return f"{points(ends[0])} to {points(ends[1])}"


def three(value: float) -> str:
    return f"{value:.3f}"


def percent_tick(share: float) -> str:
    return f"{100 * share:.3g}{THIN}%"


def points_tick(difference: float) -> str:
    return f"{100 * difference:+.3g}".replace("-", "−") if difference else "0"


def settings(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of a model's settings; of one that fitting turned into another value, both."""
    params = row["params"]
    named: list[tuple[str, str]] = [("rows", row["pool"])] if row["pool"] else []
    for name, value in params.items():
        if name.endswith("_") and name[:-1] in params:
            continue
        shown = _shown(value)
        if (found := params.get(f"{name}_", value)) != value:
            shown += f", fitted: {_shown(found)}"
        named.append((name.rstrip("_").replace("_", " "), shown))
    return named


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


FORMATS = {
    form.__name__: form
    for form in (
        settings,
        separation,
        capital,
        percent,
        points,
        p_value,
        seconds,
        megabytes,
        interval,
        points_interval,
        three,
        percent_tick,
        points_tick,
    )
}
