"""Language: what an item says, and what a doctor has read and declared."""

from recmesh.models.nlp.model import load
from recmesh.models.nlp.training import train

__all__ = ["load", "train"]
