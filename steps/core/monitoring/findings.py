"""What monitoring says: one finding for each thing that it looked at, and the verdict that follows from all."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

type Level = Literal["ok", "warn", "alert", "too little data"]

WORST_FIRST: tuple[Level, ...] = ("alert", "warn", "ok", "too little data")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`subject` is a feature's name, "prediction" or "quality"; `reason` is one sentence with its numbers.

    `numbers` are finite, by the names under which they become metrics.
    """

    level: Level
    subject: str
    reason: str
    numbers: Mapping[str, float] = field(default_factory=dict)


def worst(findings: Iterable[Finding]) -> Level:
    """The verdict: the worst level of all. "too little data" only where nothing can be said of anything."""
    levels = {finding.level for finding in findings}
    return next((level for level in WORST_FIRST if level in levels), "too little data")
