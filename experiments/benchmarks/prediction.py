"""Time predictions, of all 10,000 test images at once and of one alone: make bench.

The saved MLP that is best on validation, by hand and in PyTorch, and the saved pair of the 16-32-64-128-256 backbone,
as it is and as an ONNX file. For the pair also the way there: the features of images, and the MLP trained on them.
"""

import tempfile
from functools import partial
from importlib.metadata import version
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
from model_utils.pair import extract_features, standardized_features
from model_utils.saved_models import load_facts

STORED = RESULTS / "prediction.csv"
ROUNDS, CALLS = 3, 20  # one image alone is timed over so many calls


def best_saved(is_wanted):
    """Return the folder of the saved model that is best on validation, of those whose description is wanted."""
    facts = {folder: load_facts(folder) for folder in list_saved(MODELS) if has_weights(folder)}
    wanted = {folder: saved for folder, saved in facts.items() if is_wanted(saved.description)}
    return max(wanted, key=lambda folder: wanted[folder].metrics["validation"]["accuracy"])


def mlp_contestants():
    """The best saved MLP, by hand and in PyTorch, as functions from images to logits."""
    model, _ = mlp.load(best_saved(lambda description: description["kind"] == "mlp"))
    network = as_pytorch(model)

    @torch.inference_mode()
    def in_pytorch(images):
        return network(torch.from_numpy(preprocess(images))).numpy()

    return {
        ("mlp", np.__version__): lambda images: model.predict_logits(preprocess(images)),
        ("mlp_pytorch", torch.__version__): in_pytorch,
    }


def pair_contestants(pair):
    """A pair, as it is and as an ONNX file, as functions from images to logits."""
    contestants = {("pair", torch.__version__): pair.predict_logits}
    try:
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            export_onnx(Path(folder) / "pair.onnx", *pair)
            session = onnxruntime.InferenceSession(Path(folder) / "pair.onnx")
    except ImportError as error:
        print(f"left out: onnxruntime ({error})")
    else:

        def in_onnxruntime(images):
            parts = np.split(images, range(250, len(images), 250))  # as many at a time as `cnn.py` takes
            return np.concatenate([session.run(None, {"images": part})[0] for part in parts])

        contestants["pair_onnxruntime", version("onnxruntime")] = in_onnxruntime
    return contestants


def one_by_one(predict, images):
    """Predict each image alone."""
    for image in images:
        predict(image[np.newaxis])


def check_same_predictions(contestants, images):
    """Raise unless all contestants name the same class for each of the images."""
    predictions = {name: predict(images).argmax(axis=1) for (name, _), predict in contestants.items()}
    first, *others = predictions.values()
    different = sum(int((first != other).sum()) for other in others)
    print(f"{' and '.join(predictions)}: {different} of {len(images):,} predictions differ")
    if different:
        raise ValueError("the contestants do not predict the same")


def main():
    """Check that the contestants agree, time them, and store every round."""
    splits = load_splits()
    images = splits.test.images
    channels = list(CNNHyperparameters().channels)
    folder = best_saved(lambda description: description["hyperparameters"].get("channels") == channels)
    pair, saved = cnn.load(folder, "cpu")
    rows = []
    for contestants in (mlp_contestants(), pair_contestants(pair)):
        check_same_predictions(contestants, images)
        at_once = {name: partial(predict, images) for name, predict in contestants.items()}
        rows += alternate(at_once, ROUNDS, task="predict", images=len(images))
        alone = {name: partial(one_by_one, predict, images[:CALLS]) for name, predict in contestants.items()}
        for row in alternate(alone, ROUNDS, task="predict", images=1):
            rows.append(row | {"seconds": row["seconds"] / CALLS})

    h = mlp.ClassifierHyperparameters.from_json(saved.description["mlp_hyperparameters"])
    _, [features] = standardized_features(pair.backbone, [splits.validation], progress=False)

    def train_classifier():
        mlp.train(mlp.build(h, pair.backbone.n_features), features, features, h)

    way_there = {
        ("features", torch.__version__): partial(extract_features, pair.backbone, splits.validation.images),
        ("classifier", np.__version__): train_classifier,
    }
    rows += alternate(way_there, ROUNDS, task="way_there", images=len(splits.validation.images))
    store(STORED, rows, "task", "images")


if __name__ == "__main__":
    main()
