"""Time predictions, of all 10,000 test images at once and of one image: make bench.

The MLP is the saved one that is best on validation; it predicts by hand and in PyTorch. The pair is the saved one with
the 16-32-64-128-256 backbone that is best on validation; it predicts in `cnn.py` and as an ONNX file.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

import cnn
import mlp
from data_preparation import load_splits, preprocess
from experiments import MODELS, RESULTS
from experiments.benchmarks.rounds import alternate, store
from experiments.networks import has_weights, list_saved
from model_utils.cnn_backbone import CNNHyperparameters
from model_utils.onnx_export import as_pytorch, export_onnx
from model_utils.saved_models import load_facts

STORED = RESULTS / "prediction.csv"
ROUNDS, CALLS = 3, 20  # predictions of one image are timed over this many calls


def best_saved(is_wanted):
    """Return the folder of the saved model that is best on validation, among those whose description is wanted."""
    facts = {folder: load_facts(folder) for folder in list_saved(MODELS) if has_weights(folder)}
    wanted = {folder: saved for folder, saved in facts.items() if is_wanted(saved.description)}
    return max(wanted, key=lambda folder: wanted[folder].metrics["validation"]["accuracy"])


def best_mlp():
    """Load the saved MLP that is best on validation."""
    return mlp.load(best_saved(lambda description: description["kind"] == "mlp"))[0]


def best_pair():
    """Load the saved pair of the 16-32-64-128-256 backbone that is best on validation."""
    channels = list(CNNHyperparameters().channels)
    folder = best_saved(lambda description: description["hyperparameters"].get("channels") == channels)
    return cnn.load(folder, "cpu")[0]


# Functions from images to logits -------------------------------------------------------------------------------------


def mlp_by_hand():
    """Return a function that predicts with the hand-written MLP, from one view of each image."""
    model = best_mlp()
    return lambda images: model.predict_logits(preprocess(images))


def mlp_in_pytorch():
    """Return a function that predicts with the same weights in PyTorch."""
    network = as_pytorch(best_mlp())

    @torch.inference_mode()
    def predict(images):
        return network(torch.from_numpy(preprocess(images))).numpy()

    return predict


def pair_as_it_is():
    """Return a function that predicts with the pair, from ten views of each image."""
    return best_pair().predict_logits


def pair_in_onnxruntime():
    """Return a function that predicts with the pair as an ONNX file."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        export_onnx(Path(folder) / "pair.onnx", *best_pair())
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(Path(folder) / "pair.onnx", options)

    def predict(images):
        parts = np.split(images, range(250, len(images), 250))  # as many at a time as `cnn.py` takes
        return np.concatenate([session.run(None, {"images": part})[0] for part in parts])

    return predict


MODELS_TIMED = (
    {"mlp": ("numpy", mlp_by_hand), "mlp_pytorch": ("torch", mlp_in_pytorch)},
    {"pair": ("torch", pair_as_it_is), "pair_onnxruntime": ("onnxruntime", pair_in_onnxruntime)},
)


def all_at_once(make):
    """Return a function that classifies all test images in one call."""
    predict, images = make(), load_splits().test.images
    return lambda: predict(images).argmax(axis=1)


def one_by_one(make):
    """Return a function that classifies `CALLS` test images, one in each call."""
    predict, images = make(), load_splits().test.images[:CALLS]
    return lambda: np.concatenate([predict(image[np.newaxis]).argmax(axis=1) for image in images])


def check_same(predictions):
    """Raise a ValueError unless all contestants predict the same class for each image."""
    first, *others = predictions.values()
    different = sum(int((first != other).sum()) for other in others)
    if different:
        raise ValueError(f"{' and '.join(predictions)}: {different} of {len(first):,} predictions differ")


def main():
    """Time all models, and store every round."""
    rows = []
    for models in MODELS_TIMED:
        for task, n_images, n_calls in ((all_at_once, 10_000, 1), (one_by_one, 1, CALLS)):
            contestants = {name: (package, partial(task, make)) for name, (package, make) in models.items()}
            for row in alternate(contestants, ROUNDS, check=check_same, images=n_images):
                rows.append(row | {"seconds": row["seconds"] / n_calls})
    store(STORED, rows, "images")


if __name__ == "__main__":
    main()
