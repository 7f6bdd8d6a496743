"""Behaviour: what comes next after the last events (SASRec)."""

from recmesh.models.behavioral.model import load
from recmesh.models.behavioral.training import train

__all__ = ["load", "train"]
