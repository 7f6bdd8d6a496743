"""The doctor network: whom to connect with, and what colleagues read."""

from recmesh.models.network.model import NetworkModel, load
from recmesh.models.network.training import train

__all__ = ["NetworkModel", "load", "train"]
