"""Which arm a unit gets: a pure function of salts and the unit's id, so nothing is stored.

Two hashes decide, so that arms do not depend on the bucket: the layer's says which experiment of
the layer a unit may take part in, the experiment's own says which arm it gets there.
"""

from __future__ import annotations

import hashlib

from recmesh.orchestrator.experiments.experiment import (
    BUCKETS,
    Experiment,
    ExperimentBook,
    Layer,
)


def bucket(salt: str, unit_id: str) -> int:
    """The unit's bucket in [0, :data:`BUCKETS`).

    BLAKE2b (RFC 7693) of salt and id, parted by a byte that UTF-8 never holds; 64 bits, so the
    remainder's bias is below 1e-15.
    """
    digest = hashlib.blake2b(salt.encode() + b"\xff" + unit_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % BUCKETS


def arm_of(experiment: Experiment, layer: Layer, unit_id: str) -> str:
    """The arm that the unit gets once it takes part; ramp, dates and kill switch do not matter."""
    at = bucket(f"{layer.salt}/{experiment.name}", unit_id)
    end = 0.0
    for arm in experiment.arms:
        end += arm.share * BUCKETS
        if at < round(end):
            return arm.name
    return experiment.arms[-1].name


def held_out(book: ExperimentBook, unit_id: str) -> bool:
    """Whether the unit is kept out of every experiment."""
    return bucket(book.holdout_salt, unit_id) < round(book.holdout_share * BUCKETS)


def assign(book: ExperimentBook, unit_id: str, now_unix_s: float) -> dict[str, str]:
    """The unit's arm in every experiment that it takes part in now, by experiment.

    At most one experiment of each layer. Empty for a unit of the holdout.
    """
    if held_out(book, unit_id):
        return {}
    arms = {}
    for layer in book.layers:
        at = bucket(layer.salt, unit_id)
        for experiment in book.experiments:
            if (
                experiment.layer == layer.name
                and 0 <= at - experiment.first_bucket < experiment.exposed_buckets
                and _runs(experiment, now_unix_s)
            ):
                arms[experiment.name] = arm_of(experiment, layer, unit_id)
    return arms


def _runs(experiment: Experiment, now_unix_s: float) -> bool:
    starts, ends = experiment.starts_at.timestamp(), experiment.ends_at.timestamp()
    return not experiment.killed and starts <= now_unix_s < ends
