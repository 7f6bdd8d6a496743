"""What a policy did, how likely it was to, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recmesh.storage.errors import DataError

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

SUMS_TO_ONE = 1e-6
"""How far a row of probabilities may be from 1."""


@dataclass(frozen=True)
class LoggedActions:
    """One row for every decision of one slot.

    Raises:
        DataError: columns differ in length, a propensity is not in (0, 1], a reward is not
            finite, an action or unit is below 0, a position below 1.
    """

    action: Int64
    """``[n]``, rows of the actions there are."""
    reward: Float64
    """``[n]``"""
    propensity: Float64
    """Probability with which the logging policy chose the action ``[n]``, in (0, 1]."""
    position: Int64
    """Slot, from 1 ``[n]``; a part of the context, not of the action."""
    unit: Int64
    """Whose decision it was ``[n]``, from 0: decisions of one unit may depend on each other."""

    def __post_init__(self) -> None:
        n = len(self.action)
        if n == 0:
            raise DataError("the log holds no decisions")
        for name in ("reward", "propensity", "position", "unit"):
            if len(getattr(self, name)) != n:
                raise DataError(f"{name} has {len(getattr(self, name))} rows, action has {n}")
        rules = {
            "propensity": (self.propensity > 0) & (self.propensity <= 1),
            "reward": np.isfinite(self.reward),
            "action": self.action >= 0,
            "unit": self.unit >= 0,
            "position": self.position >= 1,
        }
        for name, fine in rules.items():
            if not fine.all():
                row = int(np.argmin(fine))
                raise DataError(f"{name} of row {row} is {getattr(self, name)[row]:g}")

    def __len__(self) -> int:
        return len(self.action)

    @classmethod
    def from_table(cls, decisions: pa.Table, actions: pa.Array) -> LoggedActions:
        """From a table with columns ``action, reward, propensity``, maybe ``position, unit``.

        Args:
            decisions: ``action`` and ``unit`` are text. Without ``position`` it is 1, without
                ``unit`` every decision stands for itself.
            actions: the actions there are; their order gives the rows.

        Raises:
            DataError: a column is missing, holds nulls, or an action is not one of ``actions``.
        """
        n = decisions.num_rows
        for name in ("action", "reward", "propensity"):
            if name not in decisions.column_names:
                raise DataError(f"the log has no column {name}")
        for name in decisions.column_names:
            if decisions[name].null_count:
                raise DataError(f"column {name} has {decisions[name].null_count} nulls")
        rows = pc.index_in(decisions["action"], value_set=actions)
        if rows.null_count:
            unknown = decisions["action"].filter(pc.is_null(rows))[0]
            raise DataError(f"action {unknown} is not one of the {len(actions)} actions")
        unit = np.arange(n)
        if "unit" in decisions.column_names:
            unit = np.unique(decisions["unit"].to_numpy(), return_inverse=True)[1]
        position = np.ones(n, np.int64)
        if "position" in decisions.column_names:
            position = decisions["position"].to_numpy().astype(np.int64)
        return cls(
            action=rows.to_numpy().astype(np.int64),
            reward=decisions["reward"].to_numpy().astype(np.float64),
            propensity=decisions["propensity"].to_numpy().astype(np.float64),
            position=position,
            unit=unit.astype(np.int64),
        )


def require_probabilities(name: str, probabilities: Float64, n: int) -> None:
    """Checks a policy's probabilities of all actions ``[n, actions]``.

    Raises:
        DataError: another number of rows, a negative or infinite entry, or a row that does not
            add up to 1.
    """
    if probabilities.ndim != 2 or len(probabilities) != n:
        raise DataError(f"{name} has shape {probabilities.shape}; {n} rows of actions are needed")
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all()):
        raise DataError(f"{name} holds a probability below 0 or not finite")
    off = np.abs(probabilities.sum(axis=1) - 1.0)
    if off.max() > SUMS_TO_ONE:
        row = int(np.argmax(off))
        raise DataError(f"{name} adds up to {probabilities[row].sum():g} in row {row}, not to 1")
