"""When an input is too rotten to go on with: the limit that `--max-rejects` sets."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from clipmill.core.errors import RunFailed
from clipmill.stage.units.sums import REASON, Sums

_ENOUGH_TO_JUDGE = 1000


@dataclass(frozen=True)
class RejectLimit:
    """``most``: an int is a number of rejected items, a float their share of all. ``sums`` says which counts are of either;
    ``items`` is what they are called."""

    most: int | float | None
    sums: type[Sums]
    items: str

    def check(self, counts: Mapping[str, int], *, all_done: bool = False) -> None:
        """Raises RunFailed when there are too many. A share is judged once a thousand were seen, or all were.

        ``counts``: as `Sums.counts` gives them.
        """
        rejected = sum(counts[name] for name in self.sums.REJECTED)
        seen = rejected + sum(counts[name] for name in self.sums.MADE)
        if self.most is None or not rejected:
            return
        if isinstance(self.most, int):
            too_many, bar = rejected > self.most, f"{self.most:,}"
        else:
            judged = all_done or seen >= _ENOUGH_TO_JUDGE
            too_many, bar = judged and rejected > self.most * seen, f"{self.most:.3g}"
        if too_many:
            reasons = Counter({key.removeprefix(REASON): n for key, n in counts.items() if key.startswith(REASON)})
            worst = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common(3))
            raise RunFailed(
                f"{rejected:,} of {seen:,} {self.items} were rejected ({rejected / seen:.1%}; {worst}), more than "
                f"--max-rejects {bar}; mend the input, or run the same command with a higher --max-rejects to continue "
                "(what is done is kept)"
            )


def rejects_by_reason(counts: Mapping[str, int]) -> dict[str, int]:
    """The rejects among counts, the most frequent reason first."""
    found = Counter({name.removeprefix(REASON): n for name, n in counts.items() if name.startswith(REASON) and n})
    return dict(found.most_common())
