"""The command line of the experiments: python -m experiments --help"""

import argparse
import json
import math
import sys
from pathlib import Path

from optuna.exceptions import StorageInternalError

from data_preparation import DataError
from experiments import MODELS, RESULTS, libraries, networks, report, workers
from experiments.spaces import STUDIES
from model_utils import command_line
from model_utils.files import write_text
from model_utils.saved_models import SavedModelError
from model_utils.tables import markdown_table, write_csv


def main(arguments=None):
    """Run the command line; return its exit status."""
    errors = (ValueError, DataError, SavedModelError, OSError, ImportError, StorageInternalError)
    return command_line.run(_parser(), arguments, errors)


def _parser():
    parser = argparse.ArgumentParser(prog="experiments", description="Search, compare, measure and report.")
    commands = parser.add_subparsers(required=True)
    _add_study_command(commands, "run", _run, "run a study, or continue it, until all its trials are finished")
    _add_study_command(commands, "work", _work, "run trials of a study as one more worker")
    _add_study_command(commands, "show", _show, "print the trials of a study, best first")
    _add_study_command(commands, "export", _export, "write the trials of a study and its settings into results/")
    _add_command(commands, "models", _models, "print the table of the models saved in a folder").add_argument(
        "models_dir", type=Path, nargs="?", default=MODELS, help="such as models"
    )
    _add_command(
        commands, "measure", _measure, "run saved models on the test images and store their predictions and speed"
    ).add_argument("folders", type=Path, nargs="+", help="saved models, such as models/cnn/NAME")
    _add_command(commands, "libraries", _libraries, "train the same MLPs by hand and in every installed library")
    _add_command(commands, "report", _report, "build REPORT.md, its figures and README's table from the stored results")
    return parser


def _add_command(commands, name, function, text):
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(command=function)
    return command


def _add_study_command(commands, name, function, text):
    command = _add_command(commands, name, function, text)
    group = "; or mlp or cnn, for all whose names begin with it, one after the other" if name == "run" else ""
    command.add_argument("study", help=f"one of {', '.join(STUDIES)}{group}")
    command.add_argument("--folder", type=Path, default=Path("runs/studies"), help="where the studies are kept")
    command.add_argument("--trials", type=int, help="number of trials, instead of the declared number")
    command.add_argument("--train-size", type=int, help="number of training images, instead of the declared number")
    if name == "run":
        command.add_argument("--workers", type=int, default=1, help="number of processes, or of CPUs on Ray")
        command.add_argument("--ray-address", help="address of a Ray cluster to run on, such as auto")
    if name in ("run", "export"):
        command.add_argument("--results", type=Path, default=RESULTS, help="the folder for the table")


def _open_study(args):
    return workers.open_study(args.study, args.folder, args.trials, args.train_size)


def _run(args):
    is_group = args.study in ("mlp", "cnn")
    for name in [name for name in STUDIES if name.startswith(f"{args.study}_")] if is_group else [args.study]:
        experiment, study = workers.open_study(name, args.folder, args.trials, args.train_size)
        workers.run_study(name, experiment, study, args.workers, args.ray_address)
        if (args.trials, args.train_size) == (None, None):  # run as declared, so the documents may use it
            _store(study, name, args.results)
        print(_table(study))
    return 0


def _work(args):
    experiment, study = _open_study(args)
    workers.run_trials(study, experiment, experiment.load_splits())
    return 0


def _show(args):
    _, study = _open_study(args)
    print(_table(study))
    return 0


def _export(args):
    _, study = _open_study(args)
    if not study.rows():
        raise ValueError(f"{args.study}: no trial is finished yet")
    print(_store(study, args.study, args.results))
    return 0


def _store(study, name, folder):
    path = folder / f"study_{name}.csv"
    write_csv(path, study.rows())
    write_text(path.with_suffix(".json"), json.dumps(study.origin, indent=2) + "\n")
    return path


def _table(study):
    rows = sorted(study.rows(), key=lambda row: math.inf if math.isnan(row["value"]) else -row["value"])
    if not rows:
        return "no trial is finished yet"
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row.values()] for row in rows]
    return markdown_table(rows[0].keys(), cells)


def _models(args):
    folders = networks.list_saved(args.models_dir)
    if not folders:
        raise ValueError(f"{args.models_dir}: no saved models, expected them as in models/mlp/NAME/model.json")
    print(networks.models_table(folders))
    return 0


def _measure(args):
    for folder in args.folders:
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
        if folder.suffix == ".tmp" or not networks.has_weights(folder):
            print(f"left out: {folder} is incomplete or has no weights")
        else:
            networks.measure(folder)
            print(folder)
    return 0


def _libraries(args):
    libraries.compare()
    print(libraries.libraries_table())
    return 0


def _report(args):
    report.write()
    print(f"written: {report.REPORT.name}, and as one HTML page {report.HTML.relative_to(report.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
