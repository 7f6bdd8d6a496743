"""Which arm a unit gets: a pure function of salts and the unit's id, so nothing is stored.

Two hashes decide, so that arms do not depend on the bucket: the layer's says which experiment of
the layer a unit may take part in, the experiment's own says which arm it gets there.
"""

from __future__ import annotations

import hashlib

from recmesh.orchestrator.experiments.experiment import (
    BUCKETS,
    INTERLEAVED,
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


def assign(
    book: ExperimentBook,
    unit_id: str,
    now_unix_s: float,
    *,
    unit: str = "doctor",
    surface: str | None = None,
) -> dict[str, str]:
    """The unit's arm in every experiment that it takes part in now, by experiment.

    At most one experiment of each layer. Empty for a unit of the holdout.

    Args:
        book: all experiments.
        unit_id: a doctor or a campaign.
        now_unix_s: when.
        unit: which of them it is.
        surface: only experiments that run there; None: all.
    """
    if held_out(book, unit_id):
        return {}
    arms = {}
    for layer in book.layers:
        at = bucket(layer.salt, unit_id)
        for experiment in book.experiments:
            if (
                experiment.layer == layer.name
                and experiment.unit == unit
                and (not surface or not experiment.surfaces or surface in experiment.surfaces)
                and 0 <= at - experiment.first_bucket < experiment.exposed_buckets
                and runs(experiment, now_unix_s)
            ):
                interleaved = experiment.kind == "interleave"
                arms[experiment.name] = (
                    INTERLEAVED if interleaved else arm_of(experiment, layer, unit_id)
                )
    return arms


def runs(experiment: Experiment, now_unix_s: float) -> bool:
    """Whether units take part at this moment, as many as its ramp says."""
    starts, ends = experiment.starts_at.timestamp(), experiment.ends_at.timestamp()
    return not experiment.killed and starts <= now_unix_s < ends
