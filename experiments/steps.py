"""A step of an argument: vary one thing in the network that the steps before arrived at, and decide.

Where the varied thing changes which learning rate is best, each choice is tried at several rates and judged at its
best one. What a step decides is written into the base of the next step by hand; a test holds every decision against
the stored results. The steps themselves are in `mlp_steps` and `cnn_steps`.
"""

import math
import statistics
from typing import NamedTuple

from optuna.distributions import CategoricalDistribution

from experiments import RESULTS
from experiments.stored import read_rows
from experiments.study import Space
from model_utils.hyperparameters import Hyperparameters
from model_utils.tables import markdown_table, mean_and_std


class Step(NamedTuple):
    """One step: its declaration, and its stored results.

    Attributes
    ----------
    study : str
        The name of the study that trains its settings.
    varied : str
        What it varies, as a title says it.
    base : Hyperparameters
        What the steps before arrived at.
    choices : dict of str to dict
        For each choice, what differs from `base`.
    decided : str
        The choice that the next step builds on.
    rates : dict of str to tuple of float, optional
        For each choice, the learning rates that it is tried at; all at the rate of their own hyperparameters if None.
    seeds : tuple of int
        Each setting is trained once with each.
    """

    study: str
    varied: str
    base: Hyperparameters
    choices: dict
    decided: str
    rates: dict = None
    seeds: tuple = (0, 1, 2)

    @property
    def settings(self):
        """What differs from the base, by the name of each setting: a choice, or a choice at a learning rate."""
        if self.rates is None:
            return self.choices
        return {
            setting_name(choice, rate): changes | {"learning_rate": rate}
            for choice, changes in self.choices.items()
            for rate in self.rates[choice]
        }

    @property
    def space(self):
        """What the study tries: each setting with each seed."""
        distributions = {
            "setting": CategoricalDistribution(tuple(self.settings)),
            "seed": CategoricalDistribution(self.seeds),
        }
        return Space(distributions, n_trials=len(self.settings) * len(self.seeds), sampler="grid")

    def changes(self, parameters):
        """Return what a trial of the study changes in the base."""
        return self.settings[parameters["setting"]] | {"seed": parameters["seed"]}

    # Its stored results

    def runs(self):
        """Read the runs from results/.

        Returns
        -------
        dict of str to list of dict
            For each setting a row for each seed: among others its best validation accuracy, value, and the training
            accuracy of its last epoch, train_accuracy.
        """
        rows = read_rows(RESULTS / f"study_{self.study}.csv")
        return {setting: runs.to_dict("records") for setting, runs in rows.groupby("setting", sort=False)}

    def by_rate(self):
        """Return, for each choice, for each learning rate that it was tried at, the accuracies of its runs."""
        runs = self.runs()
        return {
            choice: {rate: _values(runs[setting_name(choice, rate)]) for rate in self.rates[choice]}
            for choice in self.choices
        }

    def at_best_rates(self):
        """Return the runs of each choice at its best learning rate, by the mean accuracy; see `runs`."""
        runs = self.runs()
        if self.rates is None:
            return {choice: runs[choice] for choice in self.choices}
        best = {}
        for choice, accuracies in self.by_rate().items():
            label = setting_name(choice, max(accuracies, key=lambda rate: statistics.mean(accuracies[rate])))
            best[label] = runs[label]
        return best

    def accuracies(self):
        """Return the best validation accuracies of the runs of each choice, at its best learning rate."""
        return dict(zip(self.choices, map(_values, self.at_best_rates().values()), strict=True))

    def describe(self):
        """Lay out the choices at their best learning rates, and say what is decided, as Markdown."""
        described = describe(self.at_best_rates())
        is_table_alone = described.endswith("|")
        return described + ("\n\n" if is_table_alone else " ") + f"We go on with **{self.decided}**."


def setting_name(choice, rate):
    """Return the name of a choice at a learning rate."""
    return f"{choice}, rate {rate:g}"


def gains(steps):
    """Return, for each step, what its best choice gains over its worst, each at its best rate; the largest first."""
    means = {step.varied: list(map(statistics.mean, step.accuracies().values())) for step in steps}
    differences = {varied: max(values) - min(values) for varied, values in means.items()}
    return dict(sorted(differences.items(), key=lambda item: -item[1]))


def table(steps):
    """Lay out what each step varied, found and decided, as Markdown."""
    rows = []
    for step in steps:
        accuracies = step.accuracies()
        best, worst = (pick(accuracies, key=lambda c: statistics.mean(accuracies[c])) for pick in (max, min))
        cells = (f"{choice}: {mean_and_std(accuracies[choice])}" for choice in (best, worst))
        rows.append((step.varied, len(step.choices), *cells, step.decided))
    return markdown_table(["varied", "choices", "best", "worst", "decided"], rows)


def describe(runs):
    """Lay out runs of several settings, and say which differences stand out from the noise.

    Parameters
    ----------
    runs : dict of str to list of dict
        For each setting a row for each seed, with value and train_accuracy.

    Returns
    -------
    str
        Markdown. A table with a row a setting: mean and standard deviation over the n runs of the best validation
        accuracy, and the mean training accuracy of the last epoch. Then a sentence on which settings lie within two
        standard errors of the best one; with one run each, or one setting, there is no telling, and no sentence.
    """
    rows = [
        (
            setting,
            mean_and_std(_values(its_runs)),
            len(its_runs),
            f"{statistics.mean(run['train_accuracy'] for run in its_runs):.4f}",
        )
        for setting, its_runs in runs.items()
    ]
    table = markdown_table(["setting", "best validation accuracy", "n", "training accuracy, as trained"], rows)
    sentence = compare({setting: _values(its_runs) for setting, its_runs in runs.items()}, with_lost=False)
    return f"{table}\n\n{sentence}" if sentence else table


def compare(accuracies, with_lost=True):
    """Say which settings lie within two standard errors of the best one; "" where there is no telling.

    Parameters
    ----------
    accuracies : dict of str to list of float
        For each setting those of its runs.
    with_lost : bool
        Also name the others, and by how much they lie below the best.
    """
    if len(accuracies) == 1 or min(map(len, accuracies.values())) == 1:
        return ""
    means = {setting: statistics.mean(values) for setting, values in accuracies.items()}
    winner, *others = sorted(means, key=means.get, reverse=True)
    within, below = [], []
    for setting in others:
        gap = means[winner] - means[setting]
        if gap <= 2 * standard_error(accuracies[winner], accuracies[setting]):
            within.append(setting)
        else:
            below.append(f"{setting} by {gap:.4f}")
    sentence = f"Best: **{winner}**" + ("." if within else ", by more than two standard errors.")
    sentence += f" Within two standard errors of it: {'; '.join(within)}." if within else ""
    return sentence + (f" Below it: {'; '.join(below)}." if below and with_lost else "")


def standard_error(one, other):
    """Return the standard error of the difference between the means of two samples of the same size."""
    return math.hypot(statistics.stdev(one), statistics.stdev(other)) / math.sqrt(len(one))


def _values(runs):
    return [run["value"] for run in runs]


def final_accuracies(study, finals):
    """Return, for each final model, its test accuracy over the seeds: mean, standard deviation and n, as text."""
    rows = read_rows(RESULTS / f"study_{study}.csv")
    accuracies = {label: rows[rows["model"] == label]["test"] for label in finals}
    return {label: f"{mean_and_std(runs)}, n = {len(runs)}" for label, runs in accuracies.items()}
