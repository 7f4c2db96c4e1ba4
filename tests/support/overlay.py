"""A directory of which the kernel refuses passthrough, so that the daemon itself serves READs."""

import os

import pytest

from bounded import run


def overlay(directory, stack):
    """An overlay file system (a stacked one: FUSE passthrough needs an unstacked backing file)."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount an overlay")
    for name in ("lower", "upper", "work", "merged"):
        (directory / name).mkdir(parents=True)
    layers = ",".join(f"{layer}dir={directory / layer}" for layer in ("lower", "upper", "work"))
    merged = directory / "merged"
    run("mount", "-t", "overlay", "overlay", "-o", layers, merged)
    stack.exits.callback(lambda: run("umount", "-l", merged))
    return merged


def passthrough_is_possible(path):
    """True where it must work: root, Linux 6.9 or later, an ordinary file system."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    kind = run("stat", "-f", "-c", "%T", path).stdout.strip()
    return os.geteuid() == 0 and release >= (6, 9) and kind in ("ext2/ext3", "xfs", "tmpfs")
