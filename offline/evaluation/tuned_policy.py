"""The default policy with the feed's tuned weights in it, comments and all."""

from __future__ import annotations

import re

from recmesh.offline.evaluation.served_blend import ServedBlend
from recmesh.orchestrator.policy import DEFAULT_POLICY


def tuned_policy(blend: ServedBlend) -> str:
    """TOML for :meth:`~recmesh.orchestrator.policy.Policy.load`.

    Only the feed's model weights and the half-life of popularity differ from the default.
    """
    weights = "".join(f"{name} = {weight}\n" for name, weight in blend.weights.items())
    text = re.sub(
        r"(?m)^popularity_half_life_days = .*$",
        f"popularity_half_life_days = {blend.popularity_half_life_days}",
        DEFAULT_POLICY.read_text(),
    )
    text = re.sub(r'(?m)^name = "default"$', 'name = "tuned"', text)
    return re.sub(
        r"(?m)^(\[surfaces\.feed\.model_weights\]\n)(?:[^\[\n].*\n)*", rf"\g<1>{weights}", text
    )
