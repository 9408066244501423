"""A realistic summary of a run, for the tests of reports and figures."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

_PARTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.self:softmax",
    "attention.self",
    "attention.output.LayerNorm",
    "intermediate.intermediate_act_fn",
    "output.LayerNorm",
)
LAYER_NAMES = [
    "bert.embeddings.LayerNorm.quantizer",
    *(f"bert.encoder.layer.{block}.{part}.quantizer" for block in range(6) for part in _PARTS),
    "bert.pooler.activation.quantizer",
]


def layers(steps: int = 8) -> list[dict[str, Any]]:
    draw = random.Random(0)
    made = []
    for name in LAYER_NAMES:
        positive, negative = draw.random() * 0.25, draw.random() * 0.15
        rate = positive + negative
        over_time = [2 * rate * (1 - t / steps) for t in range(steps)]
        made.append(
            {
                "name": name,
                "neurons": 384,
                "rate": rate,
                "positive_rate": positive,
                "negative_rate": negative,
                "rate_per_timestep": over_time,
            }
        )
    return made


def errors() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "elements": 24576,
            "differing": 3 * (i > 10),
            "off_by_one": 2 * (i > 10),
            "off_by_more": 1 * (i > 10),
            "share_off_by_one": 2 / 24576 * (i > 10),
            "share_off_by_more": 1 / 24576 * (i > 10),
            "mean_levels": 4 / 24576 * (i > 10),
            "ties": 3 * (i > 10),
            "max_error": 0.0 if i <= 10 else 1e-7 * i,
            "mean_error": 0.0 if i < 20 else 1e-10 * i,
        }
        for i, name in enumerate(LAYER_NAMES)
    ]


_CURVE = [0.52, 0.6, 0.68, 0.73, 0.76, 0.775, 0.785, 0.788]

SUMMARY: dict[str, Any] = {
    "status": "finished",
    "name": "bert-para_inf",
    "command": "python train.py model=bert neuron=para_inf T=8",
    "seed": 3,
    "T": 8,
    "device": "cpu",
    "model": "bert",
    "dataset": "rotten_tomatoes",
    "neuron": "para_inf",
    "coding": "mean",
    "order": "even",
    "split": "test",
    "results": {
        "float": {"samples": 1000, "metrics": {"accuracy": 0.791}},
        "calibrated": {"samples": 1000, "metrics": {"accuracy": 0.774}},
        "quantized": {"samples": 1000, "metrics": {"accuracy": 0.789}},
        "spiking": {
            "T": 8,
            "samples": 1000,
            "metrics": {"accuracy": 0.788},
            "per_timestep": {"accuracy": _CURVE},
            "causal": False,
            "agreement": {"same_prediction": 999, "samples": 1000},
            "spike_rate": 0.21,
            "spikes_per_sample": 1.2e6,
        },
    },
    "layers": layers(),
    "verification": {
        "max_error": 5e-6,
        "mean_error": 2e-8,
        "tolerance": 1e-5,
        "passed": True,
        "verdict": "117 ties within rounding among 1,228,800 codes",
        "T": 8,
        "layers": errors(),
        "logits": {"max_error": 3e-6, "mean_error": 2e-7},
        "same_prediction": 63,
        "predictions": 64,
        "samples": 64,
    },
    "attribution": {
        "verdict": "mean logit error against the float network 0.21, mostly from unevenness",
        "samples": 64,
        "sources": {"clipping": -0.01, "rounding": 0.05, "time steps": 0.0, "unevenness": 0.12},
        "variants": [
            {
                "name": name,
                "mean_error": error,
                "max_error": 3 * error,
                "same_prediction": 64 - i,
                "predictions": 64,
                "accuracy": 0.8 - 0.01 * i,
            }
            for i, (name, error) in enumerate([("float", 0.0), ("quantised", 0.09), ("spiking", 0.21)])
        ],
    },
    "plan": {"spiking_layers": 50, "modules": 120, "counts": {"replaced": 6, "appended": 44}},
    "validation": {"float": {"accuracy": 0.8}, "quantized": {"accuracy": 0.795}},
    "durations": {"float": 93.12, "quantized": 40.2},
    "lineage": {
        "parents": ["outputs/parent"],
        "config_hash": "abc123",
        "data_fingerprint": "def456",
        "git_commit": "0123abc",
        "versions": {"torch": "2.14.1", "snn": "0.1.0"},
    },
    "error": None,
}


def summary(**changes: Any) -> dict[str, Any]:
    """A copy of the summary with some keys changed; ``None`` leaves a key out."""
    made = {**copy.deepcopy(SUMMARY), **changes}
    return {key: value for key, value in made.items() if value is not None}


def make_job(
    sweep: Path, name: str, overrides: list[str], contents: dict[str, Any] | None, steps: int = 8
) -> Path:
    """A job's folder as Hydra and the trackers leave it; no summary for a job that was killed."""
    path = sweep / name
    (path / ".hydra").mkdir(parents=True)
    (path / ".hydra" / "overrides.yaml").write_text("".join(f"- {item}\n" for item in overrides))
    if contents is not None:
        (path / "summary.json").write_text(json.dumps(contents))
    return path
