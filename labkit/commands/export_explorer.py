"""Write the explorer as one page that needs no Python, no server and no network.

``dmf-lab export-explorer explorer.html``

The page opens from a file and can be sent to anybody. Which episodes it shows is found by a search for views worth a
look: a wrong answer that no alignment gets right, points far outside, and others.
"""

import argparse
from pathlib import Path

from labkit.common.checks import check_int
from labkit.common.files import write_atomically
from labkit.evaluation import chosen
from labkit.explorer import serve


def arguments(parser: argparse.ArgumentParser) -> None:
    """What ``dmf-lab export-explorer`` takes."""
    parser.add_argument("out", type=Path, metavar="OUT.html", help="the page to write")
    parser.add_argument("--weights", nargs="+", help="shipped models, or paths to one's own")
    parser.add_argument("--dataset", help="miniimagenet where --data-root is given, else glyphs-mini")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--way", type=int, default=5)
    parser.add_argument("--shot", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--search", type=int, default=200, help="episodes to search for views worth a look")
    parser.add_argument("--most", type=int, default=6, help="episodes on the page; fewer make it smaller")
    parser.add_argument("--show", action="store_true", help="then serve it on this machine and open the browser")


def main(given: argparse.Namespace) -> int:
    """Write the page.

    Raises:
        ValueError: a network that the explorer does not show, a number that cannot be, or a folder for rendered
            pictures.
    """
    from labkit.explorer.precompute import check_models
    from labkit.explorer.presets import search  # these need the notebooks' packages
    from labkit.explorer.widget import Explorer

    episodes, most = range(check_int("--search", given.search)), check_int("--most", given.most)
    where = chosen.dataset_of(given.dataset, given.data_root)
    models = chosen.load_by_name(chosen.weights_of(given.weights, where))
    check_models(models)
    first = next(iter(models.values()))
    images = chosen.images_for(first, where, given.data_root)
    tasks = search(first, images, episodes, given.way, given.shot, seed=given.seed, most=most)
    explorer = Explorer(models, tasks)
    if explorer.header["presets"]:
        explorer.restore(explorer.header["presets"][0]["state"])
    text = explorer.as_page()
    write_atomically(given.out, text.encode())
    print(f"{given.out}: {len(text) / 1e6:.1f} MB, {len(tasks)} episodes")
    if given.show:
        serve.show(given.out)
    return 0
