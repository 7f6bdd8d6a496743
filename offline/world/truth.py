"""What is true in the synthetic world: who would click what, where and when."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recmesh.storage.errors import DataError, NotFoundError

Floats = NDArray[np.float32]
_ARRAYS = (
    "doctors", "drift", "social", "items", "quality", "popularity", "published", "half_life",
    "position_bias",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preference:
    """Weights of the click model's terms; ``bias`` sets the overall click rate."""

    bias: float = -3.75
    affinity: float = 3.0
    social: float = 0.8
    quality: float = 0.5
    popularity: float = 0.3
    freshness: float = 0.9


@dataclass(frozen=True)
class Truth:
    """Ground truth; rows follow users.parquet and items.parquet, all arrays float32."""

    doctors: Floats  # [users, dim]
    drift: Floats  # [users, dim], added over the whole period
    social: Floats  # [users, dim], mean vector of the doctors followed
    items: Floats  # [items, dim]
    quality: Floats  # [items], standard normal
    popularity: Floats  # [items], standardised logarithm
    published: Floats  # [items], days since the period's start
    half_life: Floats  # [items], days
    position_bias: Floats  # [slots], probability that the slot is looked at
    days: float
    preference: Preference

    def click_probability(
        self,
        users: NDArray[np.int64],
        items: NDArray[np.int64],
        position: NDArray[np.int64],
        time: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Probability of a click, float64 of the arguments' common shape ``[n]``.

        Args:
            users: rows of doctors.
            items: rows of items.
            position: slot from 1; slots past the curve's end take its last value.
            time: days since the period's start.
        """
        p, item = self.preference, self.items[items]
        share = (np.asarray(time) / self.days).astype(np.float32)[:, None]
        doctor = self.doctors[users] + share * self.drift[users]
        age = np.maximum(time - self.published[items], 0.0)
        logit = (
            p.bias
            + p.affinity * np.einsum("nd,nd->n", doctor, item)
            + p.social * np.einsum("nd,nd->n", self.social[users], item)
            + p.quality * self.quality[items]
            + p.popularity * self.popularity[items]
            + p.freshness * np.exp2(-age / self.half_life[items])
        )
        slot = np.minimum(position, len(self.position_bias)) - 1
        return np.asarray(self.position_bias[slot] / (1.0 + np.exp(-logit)), np.float64)

    def save(self, folder: Path) -> None:
        """Writes ``truth.npz`` and ``truth.json`` into ``folder``, made if absent."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(folder / "truth.npz", **{name: getattr(self, name) for name in _ARRAYS})
        parameters = {"days": self.days, "preference": asdict(self.preference)}
        (folder / "truth.json").write_text(json.dumps(parameters, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Truth:
        """Reads what :meth:`save` wrote.

        Raises:
            NotFoundError: the folder holds no truth.
            DataError: its files are damaged.
        """
        try:
            parameters = json.loads((folder / "truth.json").read_text())
            with np.load(folder / "truth.npz", allow_pickle=False) as arrays:
                return cls(
                    **{name: arrays[name] for name in _ARRAYS},
                    days=float(parameters["days"]),
                    preference=Preference(**parameters["preference"]),
                )
        except FileNotFoundError as error:
            raise NotFoundError(f"no ground truth in {folder}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"the ground truth in {folder} is damaged: {error}") from error
