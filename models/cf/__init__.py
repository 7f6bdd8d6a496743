"""Collaborative filtering: who liked these items also liked those."""

from recmesh.models.cf.model import CollaborativeModel, load
from recmesh.models.cf.training import train

__all__ = ["CollaborativeModel", "load", "train"]
