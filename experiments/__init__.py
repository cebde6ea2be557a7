"""The laboratory: whatever compares, searches, times and reports. The course runs without it."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
MODELS = ROOT / "models"
RESULTS = ROOT / "results"
FIGURES = RESULTS / "figures"
