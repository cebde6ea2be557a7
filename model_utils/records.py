"""Records: what a trained network is and what it did on the test images, kept in one JSON file without its weights."""

import json
import os
from pathlib import Path
from typing import NamedTuple

RECORDS = Path(__file__).parents[1] / "results" / "networks"


class Record(NamedTuple):
    """What is known of a network that was trained and measured.

    Attributes
    ----------
    title : str
        Its short name.
    model : str
        The name of its folder when it was saved.
    parameters : int
    multiply_adds : int
        Of one prediction, all views of the image included.
    training_seconds : float
    trained_on : str
        Device.
    images_per_second : float
        Predicted, 1,000 at once, the median of five passes, on the machine that `measured_on` tells of.
    measured_on : dict
    hyperparameters, mlp_hyperparameters : dict
        Of the backbone and of the MLP on its features; of an MLP on pixels its own, and none.
    history : list of dict
        A row an epoch; empty if only its MLP was trained.
    metrics : dict
        By part, as `mlp.measure` returns.
    predictions : str
        A digit for each test image, its predicted class.
    """

    title: str
    model: str
    parameters: int
    multiply_adds: int
    training_seconds: float
    trained_on: str
    images_per_second: float
    measured_on: dict
    hyperparameters: dict
    mlp_hyperparameters: dict
    history: list
    metrics: dict
    predictions: str


def save_record(record, folder=RECORDS):
    """Write a record into the folder, in place of an older one of the same model; return its path.

    Raises
    ------
    ValueError
        If there is a record of another model with the same title.
    """
    path = Path(folder) / f"{record.title}.json"
    if path.exists():
        other = json.loads(path.read_text(encoding="utf-8"))["model"]
        if other != record.model:
            raise ValueError(f"{path}: is of another model, {other}; remove it if {record.model} is to take its place")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(json.dumps(record._asdict(), indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
    return path


def load_records(folder=RECORDS):
    """Read all records of a folder, the highest test accuracy first.

    Raises
    ------
    ValueError
        If a file is not a whole record; it names the file.
    """
    records = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            record = Record(**json.loads(path.read_text(encoding="utf-8")))
            records.append((-record.metrics["test"]["accuracy"], record.title, record))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"{path}: not a record of a network ({error!r})") from error
    return [record for *_, record in sorted(records)]
