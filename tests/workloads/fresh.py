"""Run by tests in a fresh process, whose instruction set the environment has limited.

Prints, as JSON, the digests of every exact workload and where embeddings were saved.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch

from workloads import embedding, matmul, portfolio
from workloads.models import load_model
from workloads.runners import (
    embedding as embed_runner,
    exactmath,
    matmul as matmul_runner,
    portfolio as risk_runner,
)
from workloads.spec import RunnerTask

ASSETS = 7
PORTFOLIO = {
    "positions": [{"asset": f"a{i}", "value": (-1) ** i * 1e5 / (i + 3)} for i in range(ASSETS)],
    "assets": [
        {"name": f"a{i}", "drift": 0.01 * i, "volatility": 0.1 + 0.07 * i} for i in range(ASSETS)
    ],
    "correlation": [
        [0.9 ** abs(i - j) if i != j else 1 for i in range(ASSETS)] for j in range(ASSETS)
    ],
}
TEXTS = [f"{'word ' * (n % 37)}number {n} — naïve {n * 7919}" for n in range(50)]


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(threads: int, store: str, model: str, target: str) -> None:
    quiet = lambda fraction: None  # noqa: E731
    risk = portfolio.check_parameters({"paths": 100_001, "seed": 9, "confidence": [0.9, 0.995]})
    proof = matmul.check_parameters({"size": 272, "rounds": 3, "seed": 4})
    data = json.dumps(PORTFOLIO).encode()
    exact = {
        "portfolio-risk": risk_runner.run(RunnerTask(risk, data, None, b"", threads), quiet).data,
        "matmul-proof": matmul_runner.run(RunnerTask(proof, b"", None, b"", threads), quiet).data,
    }
    grid = torch.arange(1, 200_001, dtype=torch.float64) * 2.0**-18
    functions = [exactmath.exp(grid), exactmath.log(grid), exactmath.sqrt(grid)]
    functions.append(exactmath.normal(grid * 1.3))
    digests = {name: digest(output) for name, output in exact.items()}
    digests["functions"] = digest(b"".join(f.numpy().tobytes() for f in functions))
    given = embedding.check_parameters({"normalize": False})
    task = RunnerTask(
        given, "\n".join(TEXTS).encode(), load_model(Path(store), model), b"", threads
    )
    Path(target).write_bytes(embed_runner.run(task, quiet).data)
    found = {"digests": digests, "capability": torch.backends.cpu.get_cpu_capability()}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4])
