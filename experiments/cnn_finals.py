"""The final pairs of question 3: how they are trained, measured and saved, and a table of them."""

from dataclasses import replace

import cnn
from experiments import MODELS, RESULTS, steps
from experiments.cnn_steps import LARGE, POOLINGS, RECIPE
from experiments.stored import read_rows
from model_utils.tables import markdown_table, mean_and_std

# The final pairs, with all decisions. A large network can memorise more of its training images, so the largest was
# trained with two strengths of augmentation. The one with the higher validation accuracy from ten views is final.
FINALS = {
    "16-32-64-128-256": RECIPE,
    # How accurate can a pair with fewer than 300,000 parameters be? With the maps of the best network after 24 epochs.
    "32-48-64-88-112": replace(RECIPE, channels=(32, 48, 64, 88, 112), n_features=32, **POOLINGS["medium maps"]),
    "24-48-96-160-224": replace(RECIPE, shift=2, erase=12, **LARGE.choices[LARGE.decided]),
}
COMPARED = FINALS | {"24-48-96-160-224, weaker augmentation": replace(RECIPE, **LARGE.choices[LARGE.decided])}


def finish_final(backbone, hyperparameters, history, splits):
    """Measure a pair of `COMPARED` on the test images, once; save it if it is final; return its accuracies.

    Of a final pair, the run with the first seed is saved.
    """
    h, mlp_h = hyperparameters, backbone.head.hyperparameters
    pair = cnn.pair_of(backbone)
    metrics = cnn.measure_pair(pair, splits)
    if h in FINALS.values():
        folder = MODELS / "cnn" / cnn.pair_name(h, mlp_h)
        histories = {"backbone": history, "mlp": []}
        cnn.save(folder, pair, h, mlp_h, histories, steps.split_of(splits), metrics)
    return {part: measured["accuracy"] for part, measured in metrics.items()}


def final_accuracies():
    """Return the test accuracy of each final pair over the seeds, as text."""
    return steps.final_accuracies("cnn_final", FINALS)


def finals_table():
    """Return a Markdown table of the pairs of `COMPARED` over their seeds."""
    rows = read_rows(RESULTS / "study_cnn_final.csv")
    cells = []
    for label, final in COMPARED.items():
        runs = rows[rows["model"] == label]
        pair = cnn.pair_of(cnn.build(final))
        accuracies = (mean_and_std(runs[part]) for part in ("value", "validation", "test"))
        cells.append(
            (
                label,
                f"{pair.n_parameters:,}",
                f"{pair.multiply_adds:,}",
                *accuracies,
                len(runs),
                f"{runs['train_accuracy'].mean():.4f}",
            )
        )
    header = ["pair", "parameters", "multiply-adds", "validation, one view", "validation, ten", "test, ten"]
    return markdown_table([*header, "n", "training accuracy"], cells)
