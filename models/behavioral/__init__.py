"""Behaviour: what comes next after the last events (SASRec)."""

from recmesh.models.behavioral.model import load
from recmesh.models.model import TrainedModel, TrainOptions
from recmesh.storage.dataset import Dataset


def train(dataset: Dataset, options: TrainOptions) -> TrainedModel:
    """See :func:`recmesh.models.behavioral.training.train`."""
    # Imported here: whoever serves the model does without torch.
    from recmesh.models.behavioral import training

    return training.train(dataset, options)


__all__ = ["load", "train"]
