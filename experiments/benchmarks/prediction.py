"""Time predictions, of all 10,000 test images at once and of one alone: make bench.

The saved MLP that is best on validation, by hand and in PyTorch, and the saved pair of the 16-32-64-128-256 backbone,
as it is and as an ONNX file. For the pair also the way there: the features of images, and the MLP trained on them.
"""

import model_utils.blas  # noqa: F401  before NumPy is loaded

# isort: split

import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

import cnn
import mlp
from benchmarks.report import PREDICTION, prediction_text
from benchmarks.rounds import alternate, store
from data_preparation import load_splits, preprocess
from model_utils.command_line import from_json
from model_utils.onnx_export import as_pytorch, export_onnx
from model_utils.results import MODELS
from model_utils.saved_models import list_saved

ROUNDS, CALLS = 3, 20  # one image alone is timed over so many calls


def best_saved(beginning, load):
    """Load all saved models whose names begin so; return the best on validation, with its description."""
    loaded = [load(folder) for folder in list_saved(MODELS) if folder.name.startswith(beginning)]
    return max(loaded, key=lambda pair: pair[1].metrics["validation"]["accuracy"])


def mlp_contestants():
    """The best saved MLP, by hand and in PyTorch, as functions from images to logits."""
    model, _ = best_saved("mlp__", mlp.load)
    network = as_pytorch(model)

    @torch.inference_mode()
    def in_pytorch(images):
        return network(torch.from_numpy(preprocess(images))).numpy()

    return {
        ("MLP by hand", np.__version__): lambda images: model.predict_logits(preprocess(images)),
        ("MLP in PyTorch", torch.__version__): in_pytorch,
    }


def pair_contestants(hybrid):
    """A pair, as it is and as an ONNX file, as functions from images to logits."""
    contestants = {("CNN + MLP by hand", torch.__version__): hybrid.predict_logits}
    try:
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            export_onnx(Path(folder) / "pair.onnx", *hybrid)
            session = onnxruntime.InferenceSession(Path(folder) / "pair.onnx")
    except ImportError as error:
        print(f"left out: onnxruntime ({error})")
    else:

        def in_onnxruntime(images):
            parts = np.split(images, range(250, len(images), 250))  # as many at a time as `cnn.py` takes
            return np.concatenate([session.run(None, {"images": part})[0] for part in parts])

        contestants["CNN + MLP in onnxruntime", version("onnxruntime")] = in_onnxruntime
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
    """Check that the contestants agree, time them, and store every round in results/."""
    splits = load_splits()
    images = splits.test.images
    hybrid, saved = best_saved("CNN_16_32_64_128_256_", partial(cnn.load, device="cpu"))
    rows = []
    for contestants in (mlp_contestants(), pair_contestants(hybrid)):
        check_same_predictions(contestants, images)
        at_once = {name: partial(predict, images) for name, predict in contestants.items()}
        rows += alternate(at_once, ROUNDS, task="predict", images=len(images))
        alone = {name: partial(one_by_one, predict, images[:CALLS]) for name, predict in contestants.items()}
        for row in alternate(alone, ROUNDS, task="predict", images=1):
            rows.append(row | {"seconds": row["seconds"] / CALLS})

    h = from_json(mlp.Hyperparameters, saved.description["mlp_hyperparameters"])
    _, parts = cnn.classifier_data(hybrid.backbone, [splits.validation], progress=False)

    def train_classifier():
        mlp.train(mlp.build(h, hybrid.backbone.n_features), *parts, *parts, h, progress=False)

    way_there = {
        ("features", torch.__version__): partial(cnn.extract_features, hybrid.backbone, splits.validation.images),
        (f"MLP by hand, {h.epochs} epochs", np.__version__): train_classifier,
    }
    rows += alternate(way_there, ROUNDS, task="features and MLP", images=len(splits.validation.images))
    store(PREDICTION, rows, "task", "images")
    print(prediction_text())


if __name__ == "__main__":
    main()
