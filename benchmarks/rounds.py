"""Time contestants that take turns, so that a drift of the machine's speed meets all of them."""

import platform
import re
import time
from pathlib import Path

import torch
from tqdm import tqdm


def alternate(contestants, n_rounds):
    """Run every contestant once a round; the first round only warms up.

    Parameters
    ----------
    contestants : dict of (str, str) to function
        By name and version, a function that trains for one epoch and returns a loss, to see that it learns.
    n_rounds : int

    Returns
    -------
    list of dict
        A row a contestant and round, with the seconds that it took.
    """
    rows = []
    for round_number in tqdm(range(n_rounds + 1), desc="rounds"):
        for (library, version), epoch in contestants.items():
            started = time.perf_counter()
            loss = epoch()
            seconds = time.perf_counter() - started
            if round_number:
                rows.append(
                    {
                        "library": library,
                        "version": version,
                        "round": round_number,
                        "seconds": round(seconds, 4),
                        "loss": round(loss, 4),
                        "processor": processor_name(),
                        "threads": torch.get_num_threads(),
                    }
                )
    return rows


def processor_name():
    """Return the processor's name; Linux keeps it where `platform` does not look."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else []
    return names[0] if names else platform.processor()
