"""Two small search spaces, in a module of their own so that a process can have them in no time."""

from optuna.distributions import CategoricalDistribution, FloatDistribution

from model_utils.study import Space

TPE = Space({"x": FloatDistribution(0.0, 1.0), "kind": CategoricalDistribution(("a", "b"))}, n_trials=4)
GRID = Space(
    {"x": CategoricalDistribution((1, 2, 3)), "kind": CategoricalDistribution(("a", "b"))}, n_trials=6, sampler="grid"
)
