"""Say which data set lies in a folder, whether it is whole, and whether it is the copy the lab's numbers come from.

``dmf-lab check-data /data/miniimagenet``

``dmf-lab check-data /data/cifar --download cifar-fs`` first fetches CIFAR-100, 169 MB, which holds a benchmark of
photographs; nothing else is ever fetched.
"""

import argparse

from labkit.data import cifar_fs
from labkit.data.check import check_data


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("root", help="the folder, as for labkit.load_images(..., root=...)")
    parser.add_argument("--download", choices=["cifar-fs"], help="fetch its files into the folder first")


def main(given: argparse.Namespace) -> int:
    """Print the report; the exit code is 0 where a data set is whole, 1 where none is."""
    if given.download:
        cifar_fs.fetch(given.root)
    found = check_data(given.root)
    for data in found:
        print(data)
    return 0 if any(data.is_whole for data in found) else 1
