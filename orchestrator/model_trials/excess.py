"""Whether failures are more frequent than they may be, asked as often as one likes.

Under the hypothesis that a failure has at most the probability p₀, the likelihood ratio of any
p₁ > p₀ against p₀ is a supermartingale in the number of calls, and so is the mean of several. By
Ville's inequality (Ville, 1939) it ever reaches 1/α with probability α at most, whenever and
however often it is looked at: a test that needs no planned end (Robbins, Ann. Math. Statist. 1970;
as e-process: Ramdas, Grünwald, Vovk & Shafer, Statist. Sci. 2023).
"""

from __future__ import annotations

import math

STEPS = 6
MOST = 0.99


def evidence(failures: int, calls: int, allowed: float) -> float:
    """How strongly ``failures`` of ``calls`` speak against a failure rate of ``allowed`` or less.

    1 is no evidence; reject at level α from 1/α on. ``allowed`` in (0, 1); alternatives are twice,
    four times, … as much, equally weighted. Infinite where it cannot be said in a float.
    """
    if not 0 < allowed < 1:
        raise ValueError(f"allowed is {allowed:g}; it must be in (0, 1)")
    rates = {min(allowed * 2**step, max(MOST, (1 + allowed) / 2)) for step in range(1, STEPS + 1)}
    logs = [
        failures * math.log(rate / allowed)
        + (calls - failures) * math.log((1 - rate) / (1 - allowed))
        for rate in rates
    ]
    top = max(logs)
    mean_log = top + math.log(sum(math.exp(one - top) for one in logs) / len(logs))
    return math.exp(mean_log) if mean_log < 700 else math.inf
