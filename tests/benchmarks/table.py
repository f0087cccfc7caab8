"""The rows that come out, and the table they make."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    measure: str
    product: str
    peer: str = "-"
    ratio: str = "-"
    aim: str = "-"
    met: bool | None = None

    @classmethod
    def spoiled(cls, measure: str, reason: str) -> "Row":
        """A measure that says nothing about the product, because something else gave out first."""
        return cls(measure, f"not measured: {reason}", met=False)


_VERDICTS = {None: "-", True: "yes", False: "no"}


def at_most(value: float, aim: float) -> tuple[str, bool]:
    return f"≤ {aim:g}", value <= aim


def markdown(rows: Iterable[Row]) -> str:
    lines = ["| measure | product | peer | ratio | aim | met |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = (row.measure, row.product, row.peer, row.ratio, row.aim, _VERDICTS[row.met])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
