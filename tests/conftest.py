import pytest

import data_preparation
import mlp
from model_utils.records import load_records
from model_utils.results import MODELS
from model_utils.saved_models import list_saved


@pytest.fixture(scope="session")
def official():
    return data_preparation.load_official()


@pytest.fixture(scope="session")
def saved_models():
    """By name, the folders of the models in models/ that have a record; what a user trained there has none."""
    recorded = {record.model for record in load_records()}
    return {folder.name: folder for folder in list_saved(MODELS) if folder.name in recorded}


@pytest.fixture(scope="session")
def small_splits():
    return data_preparation.load_splits(train=3000, validation=1000)


@pytest.fixture(scope="session")
def small_data(small_splits):
    """Training and validation inputs and labels, ready for the MLP."""
    return [(data_preparation.preprocess(part.images), part.labels) for part in small_splits[:2]]


@pytest.fixture(scope="session")
def trained(small_data):
    """A small trained model with its hyperparameters and history."""
    h = mlp.Hyperparameters(hidden_sizes=(32,), epochs=3, batch_norm=True, dropout=0.1)
    model = mlp.build(h)
    return model, h, mlp.train(model, *small_data, h, progress=False)
