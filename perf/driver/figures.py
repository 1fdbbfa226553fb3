"""What many runs say together."""

import statistics
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Spread:
    """A sample in five numbers."""

    median: float
    lower: float
    upper: float
    least: float
    most: float

    @classmethod
    def of(cls, values):
        """Quartiles by linear interpolation between the values (the "inclusive" method)."""
        values = sorted(values)
        if not values:
            raise ValueError("nothing was measured")
        if len(values) == 1:
            lower = upper = values[0]
        else:
            lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
        return cls(statistics.median(values), lower, upper, values[0], values[-1])

    def rounded(self, digits):
        return {name: round(value, digits) for name, value in asdict(self).items()}


def pairwise_ratios(numerators, denominators):
    """Of values that were measured one after the other: what disturbs a pair disturbs both."""
    if len(numerators) != len(denominators):
        raise ValueError("a run has no partner")
    return [numerator / denominator for numerator, denominator in zip(numerators, denominators)]
