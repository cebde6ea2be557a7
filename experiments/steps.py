"""A step: vary one thing in the network that the earlier steps arrived at, and decide.

If the best learning rate depends on the choice, each choice is tried at several rates and judged at its best one. The
decision of a step is written into the base of the next step by hand; a test checks every decision against the stored
results. The steps themselves are in `mlp_steps` and `cnn_steps`.
"""

import math
import statistics
from dataclasses import replace
from typing import NamedTuple

from optuna.distributions import CategoricalDistribution

from experiments import RESULTS
from experiments.stored import read_rows
from experiments.study import Space
from model_utils.hyperparameters import Hyperparameters
from model_utils.tables import markdown_table, mean_and_std

SEEDS = (0, 1, 2)
# All choices are made on 12,000 validation images. Then 9,000 of them are added to the training images of the final
# models; the other 3,000 choose the epoch.
FINAL_TRAIN_SIZE = 57_000
# The columns of a table of steps.
TABLE = ("varied", "choice", "learning rates", "validation accuracy", "training accuracy")


class Step(NamedTuple):
    """One step: its declaration, and its stored results.

    Attributes
    ----------
    study : str
        The name of the study that trains its settings.
    varied : str
        What it varies, for titles.
    base : Hyperparameters
        The hyperparameters that the earlier steps arrived at.
    choices : dict of str to dict
        For each choice, what differs from `base`.
    decided : str, optional
        The choice that the next step builds on; None if the step decides nothing.
    reason : str
        Why, if it is not simply the best choice: the end of the sentence "We continue with X, ...".
    rates : dict of str to tuple of float, optional
        For each choice, the learning rates to try; if None, each choice has the rate of its hyperparameters.
    seeds : tuple of int
        Each setting is trained once with each seed.
    """

    study: str
    varied: str
    base: Hyperparameters
    choices: dict
    decided: str = None
    reason: str = ""
    rates: dict = None
    seeds: tuple = SEEDS

    @property
    def settings(self):
        """What differs from the base, for each setting: a choice, or a choice at a learning rate."""
        if self.rates is None:
            return self.choices
        return {
            setting_name(choice, rate): changes | {"learning_rate": rate}
            for choice, changes in self.choices.items()
            for rate in self.rates[choice]
        }

    @property
    def space(self):
        """The search space of the study: each setting with each seed."""
        distributions = {
            "setting": CategoricalDistribution(tuple(self.settings)),
            "seed": CategoricalDistribution(self.seeds),
        }
        return Space(distributions, n_trials=len(self.settings) * len(self.seeds), sampler="grid")

    def changes(self, parameters):
        """Return what a trial of the study changes in the base."""
        return self.settings[parameters["setting"]] | {"seed": parameters["seed"]}

    # Stored results

    def runs(self):
        """Read the runs from results/.

        Returns
        -------
        dict of str to list of dict
            For each setting, one row for each seed. Among its keys are value, the best validation accuracy, and
            train_accuracy, the training accuracy of the last epoch.
        """
        rows = read_rows(RESULTS / f"study_{self.study}.csv")
        return {setting: runs.to_dict("records") for setting, runs in rows.groupby("setting", sort=False)}

    def by_rate(self):
        """Return the accuracies of the runs, for each choice and each of its learning rates."""
        runs = self.runs()
        return {
            choice: {rate: _values(runs[setting_name(choice, rate)]) for rate in self.rates[choice]}
            for choice in self.choices
        }

    def best_rates(self):
        """Return the learning rate with the highest mean accuracy, for each choice."""
        return {
            choice: max(accuracies, key=lambda rate: statistics.mean(accuracies[rate]))
            for choice, accuracies in self.by_rate().items()
        }

    def at_best_rates(self):
        """Return the runs of each choice at its best learning rate; see `runs`."""
        runs = self.runs()
        if self.rates is None:
            return {choice: runs[choice] for choice in self.choices}
        labels = (setting_name(choice, rate) for choice, rate in self.best_rates().items())
        return {label: runs[label] for label in labels}

    def accuracies(self):
        """Return the best validation accuracies of the runs of each choice, at its best learning rate."""
        return dict(zip(self.choices, map(_values, self.at_best_rates().values()), strict=True))

    @property
    def title(self):
        """What it varies, in which network, for how many epochs, and with how many seeds."""
        settings = [replace(self.base, **changes) for changes in self.choices.values()]
        networks = {(784, *h.hidden_sizes, 10) if hasattr(h, "hidden_sizes") else h.channels for h in settings}
        lengths = sorted({h.epochs for h in settings})
        conditions = ["-".join(map(str, networks.pop()))] if len(networks) == 1 else []
        conditions += [f"{' or '.join(map(str, lengths))} epochs", f"n = {len(self.seeds)}"]
        return f"{self.varied}: {', '.join(conditions)}"

    def table_rows(self):
        """Return the rows of a table with the columns `TABLE`, one for each choice."""
        rates = {
            choice: changes.get("learning_rate", self.base.learning_rate) for choice, changes in self.choices.items()
        }
        if self.rates is not None:
            rates = {
                choice: ", ".join(f"**{rate:g}**" if rate == best else f"{rate:g}" for rate in self.rates[choice])
                for choice, best in self.best_rates().items()
            }
        return [
            (
                "" if row else self.title,
                f"**{choice}**" if choice == self.decided else choice,
                rates[choice],
                mean_and_std(_values(runs)),
                f"{statistics.mean(run['train_accuracy'] for run in runs):.4f}",
            )
            for row, (choice, runs) in enumerate(zip(self.choices, self.at_best_rates().values(), strict=True))
        ]

    def describe(self):
        """Return a Markdown table of the choices at their best learning rates, and the verdict on them."""
        return f"{runs_table(self.at_best_rates())}\n\n{self.verdict()}"

    def verdict(self):
        """Return sentences on which choices are close to the best, on the decision and on the learning rates tried."""
        accuracies = {setting: _values(runs) for setting, runs in self.at_best_rates().items()}
        sentences = [compare(accuracies, with_lost=False)]
        if self.decided is not None:
            sentences.append(f"We continue with **{self.decided}**{self.reason and ', ' + self.reason}.")
        if self.rates is not None:
            sentences += self._rates_tried()
        return " ".join(filter(None, sentences))

    def _rates_tried(self):
        """Return sentences on the learning rates tried, and on the choices whose best one is at an edge."""
        tried = {}
        for choice, rates in self.rates.items():
            tried.setdefault(", ".join(f"{rate:g}" for rate in rates), []).append(choice)
        named = (rates + (f" ({'; '.join(of)})" if len(tried) > 1 else "") for rates, of in tried.items())
        sentences = [f"Learning rates tried: {'; '.join(named)}."]
        for edge, pick in (("largest", max), ("smallest", min)):
            at_edge = [choice for choice, rate in self.best_rates().items() if rate == pick(self.rates[choice])]
            if at_edge:
                sentences.append(f"The best rate is the {edge} one tried for {'; '.join(at_edge)}.")
        return sentences


def setting_name(choice, rate):
    """Return the name of a choice at a learning rate."""
    return f"{choice}, rate {rate:g}"


def runs_table(runs):
    """Return a Markdown table of the runs of several settings.

    Parameters
    ----------
    runs : dict of str to list of dict
        For each setting, one row for each seed, with value and train_accuracy.

    Returns
    -------
    str
        The table has one row for each setting: mean and standard deviation over the n runs of the best validation
        accuracy, and the mean training accuracy of the last epoch.
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
    return markdown_table(["setting", "best validation accuracy", "n", "training accuracy (last epoch)"], rows)


def compare(accuracies, with_lost=True):
    """Return a sentence on which settings lie within two standard errors of the best; "" for one setting or one run.

    Parameters
    ----------
    accuracies : dict of str to list of float
        For each setting, the accuracies of its runs.
    with_lost : bool
        Also name the other settings, and how far they lie below the best.

    Returns
    -------
    str
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
    return sentence + (f" Worse than the best: {'; '.join(below)}." if below and with_lost else "")


def gain(before, after):
    """Return the difference between the means of two samples, rounded as in the tables, and its standard error."""
    return round(statistics.mean(after), 4) - round(statistics.mean(before), 4), standard_error(before, after)


def gains_table(gains):
    """Return a Markdown table of gains and their standard errors, from `gain`."""
    rows = [(what, f"{difference:+.4f}", f"{error:.4f}") for what, (difference, error) in gains.items()]
    return markdown_table(["change", "gain in validation accuracy", "standard error"], rows)


def standard_error(one, other):
    """Return the standard error of the difference between the means of two samples."""
    return math.hypot(*(statistics.stdev(sample) / math.sqrt(len(sample)) for sample in (one, other)))


def _values(runs):
    return [run["value"] for run in runs]


def final_accuracies(study, finals):
    """Return the test accuracy of each final model over the seeds as text: mean, standard deviation and n."""
    rows = read_rows(RESULTS / f"study_{study}.csv")
    accuracies = {label: rows[rows["model"] == label]["test"] for label in finals}
    return {label: f"{mean_and_std(runs)}, n = {len(runs)}" for label, runs in accuracies.items()}


def split_of(splits):
    """Return the arguments of `load_splits` that gave these splits, with the official test images."""
    sizes = {name: len(getattr(splits, name).labels) for name in ("train", "validation")}
    return sizes | {"test": "official", "seed": 0}
