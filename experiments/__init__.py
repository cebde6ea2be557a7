"""Comparisons, searches, timings and the report; `mlp.py` and `cnn.py` run without this package."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
RESULTS = ROOT / "results"
FIGURES = RESULTS / "figures"
