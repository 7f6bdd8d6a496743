"""How fast the sentence encoder is: int8 in ONNX Runtime, float32 and bfloat16 in torch.

python benchmarks/encoder_speed.py

Texts fill the encoder's 128 tokens; the query has four words. Likeness is the lowest cosine of
a text's vector to its float32 one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch

from recmesh.models.nlp.encoder import PACKAGED, Encoder

TEXTS = 128
QUERIES = 50
WORDS = ["randomised", "trial", "of", "statin", "therapy", "in", "chronic", "heart", "failure"]


def measure(encode: Callable[[list[str]], np.ndarray]) -> tuple[np.ndarray, float, float]:
    """Vectors of the texts, texts a second, and the median query in milliseconds."""
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 150)) for _ in range(TEXTS)]
    encode(texts[:16])
    started = time.perf_counter()
    vectors = encode(texts)
    texts_per_s = TEXTS / (time.perf_counter() - started)
    took_ms = []
    for n in range(QUERIES):
        started = time.perf_counter()
        encode([f"statins and liver {n}"])
        took_ms.append((time.perf_counter() - started) * 1000)
    return vectors, texts_per_s, float(np.median(took_ms))


def main() -> None:
    """Prints a line for each way to run it."""
    int8, float32 = (Encoder.choose(name) for name in PACKAGED)

    def bfloat16(texts: list[str]) -> np.ndarray:
        with torch.autocast("cpu", torch.bfloat16):
            return float32.encode(texts)

    exact, *_ = measure(float32.encode)
    print(f"{'':28}{'texts/s':>9}{'query ms':>10}{'likeness':>10}")
    for name, encode in {
        "int8, ONNX Runtime": int8.encode,
        "float32, torch": float32.encode,
        "bfloat16, torch": bfloat16,
    }.items():
        vectors, texts_per_s, query_ms = measure(encode)
        likeness = float((vectors * exact).sum(axis=1).min())
        print(f"{name:28}{texts_per_s:9.1f}{query_ms:10.1f}{likeness:10.4f}")
    bf16 = torch.cpu.get_capabilities().get("avx512_bf16", False)
    print(f"{torch.get_num_threads()} threads; bfloat16 in hardware: {bf16}")


if __name__ == "__main__":
    main()
