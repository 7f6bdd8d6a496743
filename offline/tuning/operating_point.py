"""Which point of a front to serve: by an explicit rule, written down with the policy."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from recmesh.offline.tuning.candidates import Float64
from recmesh.storage.errors import ConfigurationError

KNEE = "knee"
RULE = re.compile(
    r"\s*(?P<bound>[a-z]+)\s*>=\s*(?P<share>[0-9.]+)(?P<best>\s*\*\s*best)?\s*,"
    r"\s*maximi[sz]e\s+(?P<goal>[a-z]+)\s*"
)
HOW = 'write "knee" or, for example, "ndcg>=0.98*best, maximize diversity"'


def checked_rule(rule: str, metrics: Sequence[str]) -> re.Match[str] | None:
    """The parts of a rule; None for ``knee``.

    Raises:
        ConfigurationError: it cannot be read, or names a metric that is not there.
    """
    if rule.strip() == KNEE:
        return None
    read = RULE.fullmatch(rule)
    if read is None:
        raise ConfigurationError(f"rule {rule!r} cannot be read; {HOW}")
    for name in (read["bound"], read["goal"]):
        if name not in metrics:
            raise ConfigurationError(
                f"rule {rule!r}: unknown metric {name}; the front has {', '.join(metrics)}"
            )
    return read


def chosen_point(rule: str, points: Float64, metrics: Sequence[str]) -> int:
    """The row of ``points`` that the rule chooses.

    ``knee`` is the point nearest to the best of every metric, each scaled to [0, 1] over the
    front (the distance to the ideal point, Zeleny 1973). ``A>=x*best, maximize B`` is the point
    with most of B among those with at least that share of the most A there is; ``A>=x`` asks for
    so much of A itself.

    Args:
        rule: as above.
        points: of a front ``[n, metrics]``, at least one.
        metrics: their names.

    Raises:
        ConfigurationError: the rule cannot be read, names an unknown metric, or no point meets
            it; says the most that there is.
    """
    read = checked_rule(rule, metrics)
    if read is None:
        spread = np.ptp(points, axis=0)
        scaled = (points.max(axis=0) - points) / np.where(spread > 0, spread, 1.0)
        return int(np.linalg.norm(scaled, axis=1).argmin())
    bound = points[:, list(metrics).index(read["bound"])]
    least = float(read["share"]) * (float(bound.max()) if read["best"] else 1.0)
    meets = np.flatnonzero(bound >= least - 1e-12)
    if not len(meets):
        raise ConfigurationError(
            f"rule {rule!r}: no point has {read['bound']} of {least:.4f}; the most is "
            f"{bound.max():.4f}"
        )
    goal = points[meets, list(metrics).index(read["goal"])]
    return int(meets[goal.argmax()])
