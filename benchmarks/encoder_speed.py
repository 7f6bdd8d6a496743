"""How fast sentence encoders are: in ONNX Runtime, and in torch in float32 and bfloat16.

python benchmarks/encoder_speed.py [ENCODER …]

Encoders are names or folders; those that the packages hold come first. Ways take turns, so that a
busy machine is busy for all; the best round of each counts, in seconds of CPU too. Texts fill the
encoder's 128 tokens; the query has four words. Likeness is the lowest cosine of a text's vector to
the one of all-MiniLM-L6-v2 in float32.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch

from recmesh.models.model import Float32
from recmesh.models.nlp.encoder import MAX_TOKENS, PACKAGED, Backend, Encoder, Weights, find_weights
from recmesh.models.nlp.torch_backend import TorchBackend, has_bfloat16

ROUNDS = 5
TEXTS = 64
QUERIES = 20
WORDS = ["randomised", "trial", "of", "statin", "therapy", "in", "chronic", "heart", "failure"]


@dataclass(frozen=True, slots=True)
class InDtype(Weights):
    """Weights that torch computes with in one precision, whatever the processor."""

    dtype: torch.dtype = torch.float32

    def load(self) -> Backend:
        """The transformer in ``dtype``."""
        return TorchBackend(self.tokenizer, MAX_TOKENS, self.dtype)


@dataclass(slots=True)
class Way:
    """One way to run one encoder, and its best rounds."""

    name: str
    encoder: Encoder
    text_s: float = float("inf")
    text_cpu_s: float = float("inf")
    query_s: list[float] = field(default_factory=list)
    query_cpu_s: list[float] = field(default_factory=list)

    def run(self, texts: list[str]) -> Float32:
        """One round; the vectors of the texts."""
        wall, cpu = time.perf_counter(), time.process_time()
        vectors = self.encoder.encode(texts)
        self.text_s = min(self.text_s, (time.perf_counter() - wall) / len(texts))
        self.text_cpu_s = min(self.text_cpu_s, (time.process_time() - cpu) / len(texts))
        for n in range(QUERIES):
            wall, cpu = time.perf_counter(), time.process_time()
            self.encoder.encode([f"statins and liver {n}"])
            self.query_s.append(time.perf_counter() - wall)
            self.query_cpu_s.append(time.process_time() - cpu)
        return vectors


def ways(choices: list[str]) -> list[Way]:
    """Every encoder in every way it can run; the reference first."""
    found = []
    for weights in map(find_weights, [*reversed(PACKAGED), *choices]):
        if weights.file.suffix == ".onnx":
            found.append(Way(f"{weights.name}, ONNX Runtime", Encoder(weights)))
            continue
        for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
            parts = (weights.name, weights.file, weights.tokenizer, weights.sha256)
            found.append(Way(f"{weights.name}, torch {name}", Encoder(InDtype(*parts, dtype))))
    return found


def main() -> None:
    """Prints a line for each way to run it."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 150)) for _ in range(TEXTS)]
    compared = ways(sys.argv[1:])
    width = max(len(way.name) for way in compared) + 2
    for way in compared:
        way.encoder.encode(texts[:2])
    likeness = {}
    for _ in range(ROUNDS):
        for way in compared:
            vectors = way.run(texts)
            if way is compared[0]:
                exact = vectors
            likeness[way.name] = float((vectors * exact).sum(axis=1).min())
    headings = ("texts/s", "texts/CPU s", "query ms", "CPU ms", "likeness")
    print(" " * width + "".join(f"{heading:>13}" for heading in headings))
    for way in compared:
        query_ms, cpu_ms = (1000 * np.median(s) for s in (way.query_s, way.query_cpu_s))
        print(
            f"{way.name:{width}}{1 / way.text_s:13.1f}{1 / way.text_cpu_s:13.1f}"
            f"{query_ms:13.1f}{cpu_ms:13.1f}{likeness[way.name]:13.4f}"
        )
    print(f"{torch.get_num_threads()} threads; bfloat16 in hardware: {has_bfloat16()}")


if __name__ == "__main__":
    main()
