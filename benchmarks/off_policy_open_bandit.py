"""One policy's value from the other's logs, against its own: the Open Bandit data set.

python -m benchmarks.off_policy_open_bandit open-bandit.tar.gz

Saito, Aihara, Matsutani & Narita, "Open Bandit Dataset and Pipeline", 2021 (CC BY 4.0): clicks on a
fashion shop's recommendations in three slots, by a uniform policy and by Bernoulli Thompson
sampling. The second's probabilities of actions that it did not take are not in the logs. It has no
context, so its policy is taken to be its own logs' shares of items in each slot, which need no
click; that those shares err is not in the intervals. A policy's own value is the mean of its logs'
clicks, with an interval, too: at 10,000 rows and 40 to 70 clicks it is itself known to a quarter.
"""

from __future__ import annotations

import argparse
import sys
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pc_csv

from recmesh.offline.off_policy.evaluate import ActionEvaluation
from recmesh.offline.off_policy.interval import interval
from recmesh.offline.off_policy.logged_actions import LoggedActions
from recmesh.offline.off_policy.reward_model import ShrunkMeans
from recmesh.storage.errors import DataError, NotFoundError, RecMeshError

Float64 = npt.NDArray[np.float64]

CAMPAIGNS = ("men", "women", "all")
POLICIES = ("random", "bts")
LARGEST_CLICK_PROBABILITY = 0.05
"""Of the best item; the means of all are below 0.01. Switch-DR is told."""


def read(archive: Path) -> dict[tuple[str, str], pa.Table]:
    """All logs by campaign and policy, as tables of logged decisions.

    Raises:
        NotFoundError: there is no such file.
        DataError: it is no archive, or lacks a log.
    """
    if not archive.is_file():
        raise NotFoundError(f"{archive} is absent: nothing to check (see this file's beginning)")
    try:
        with tarfile.open(archive) as files:
            names = {Path(name).parts[-3:]: name for name in files.getnames()}
            return {
                (campaign, policy): _decisions(files, names[policy, campaign, f"{campaign}.csv"])
                for campaign in CAMPAIGNS
                for policy in POLICIES
            }
    except (tarfile.TarError, KeyError) as error:
        raise DataError(f"{archive} is not the Open Bandit data set: {error}") from error


def _decisions(files: tarfile.TarFile, name: str) -> pa.Table:
    content = files.extractfile(name)
    if content is None:
        raise DataError(f"{name} is no file")
    table = pc_csv.read_csv(content)
    return pa.table(
        {
            "action": table["item_id"].cast(pa.string()),
            "reward": table["click"],
            "propensity": table["propensity_score"],
            "position": table["position"],
        }
    )


def policy(name: str, own: LoggedActions, other: LoggedActions, actions: int) -> Float64:
    """The policy's probabilities in the other's rows ``[n, actions]``."""
    if name == "random":
        return np.full((len(other), actions), 1 / actions)
    slots = int(own.position.max())
    shares = np.zeros((slots, actions))
    np.add.at(shares, (own.position - 1, own.action), 1.0)
    shares /= shares.sum(axis=1, keepdims=True)
    return np.asarray(shares[other.position - 1])


def main() -> None:
    """Prints a table of both directions of three campaigns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("archive", type=Path, help="open-bandit.tar.gz")
    try:
        logs = read(parser.parse_args().archive)
    except RecMeshError as error:
        sys.exit(str(error))
    within: dict[bool, list[bool]] = {True: [], False: []}
    print(
        f"{'campaign':<9}{'policy':<8}{'estimator':<11}{'clicks a thousand':<22}"
        f"{'its own logs':<22}{'rows':>7}{'rewards':>9}"
    )
    for campaign in CAMPAIGNS:
        both = [logs[campaign, name] for name in POLICIES]
        known = pa.concat_arrays([log["action"].combine_chunks() for log in both]).unique()
        read_logs = {
            name: LoggedActions.from_table(log, known)
            for name, log in zip(POLICIES, both, strict=True)
        }
        for name, from_ in (("bts", "random"), ("random", "bts")):
            own, other = read_logs[name], read_logs[from_]
            truth = interval(own.reward, own.unit)
            new = policy(name, own, other, len(known))
            evaluation = ActionEvaluation(ShrunkMeans(len(known)), LARGEST_CLICK_PROBABILITY)
            for estimate in evaluation.estimates(other, new):
                found, s = estimate.interval, estimate.support
                text = f"{1000 * found.value:.1f} [{1000 * found.low:.1f}, {1000 * found.high:.1f}]"
                own_text = (
                    f"{1000 * truth.value:.1f} [{1000 * truth.low:.1f}, {1000 * truth.high:.1f}]"
                )
                print(
                    f"{campaign:<9}{name:<8}{estimate.estimator:<11}{text:<22}{own_text:<22}"
                    f"{s.effective_rows:>7.0f}{s.effective_rewards:>9.1f}"
                    f"{'' if estimate.usable else '  refused'}"
                )
                error = np.hypot(found.standard_error, truth.standard_error)
                within[estimate.usable].append(abs(found.value - truth.value) <= 1.96 * error)
            for line in (*estimate.support.refusals, *estimate.support.warnings):
                print(f"{'':<17}{line}")
    print()
    for usable, hits in within.items():
        print(
            f"{'used' if usable else 'refused'}: {sum(hits)} of {len(hits)} estimates are within "
            f"both values' error"
        )


if __name__ == "__main__":
    main()
