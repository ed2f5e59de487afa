"""What a hypervisor needs of a host that can be booted with its software: the testbed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Foreign:
    """What is taken of a release's packages, and where it is put.

    Of `folder` the `files` (patterns) come along, with the libraries that they need. `root` is
    where they lie in the image. The `commands` among them can be called there by their names.
    """

    suite: str
    packages: tuple[str, ...]
    folder: str
    files: tuple[str, ...]
    root: str
    commands: tuple[str, ...]
    module_source: str  # pattern of the folder with its modules' Makefile
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Addition:
    """What is added to the base image."""

    name: str
    programs: Mapping[str, str]  # program -> Debian package it comes from
    folders: Mapping[str, tuple[str, ...]]  # folder of the packages -> files of it, () for all
    packages: tuple[str, ...] = ()  # for `folders`
    private: str = ""  # folder of programs that are not on Debian's PATH: they get a link there
    empty: tuple[str, ...] = ()  # folders that its programs expect
    boot: str = ""  # a gzipped file of the packages, put unpacked beside the root as `boot`
    foreign: Foreign | None = None  # what comes of another release

    @property
    def all_packages(self) -> list[str]:
        return sorted({*self.programs.values(), *self.packages})


@dataclass(frozen=True)
class Layer:
    """A hypervisor's software, with which a host is booted that can be booted at will.

    `addition` is what the image gets for it, `modules` are loaded, `start` is a shell script that
    starts its services. `beneath`: the command line of a hypervisor that is booted beneath the
    kernel, whose console is then `console`; empty where none is. `hypervisor`: a file of ours
    that is booted there in place of the addition's. `invariant_tsc`: the processor must say that
    its time stamp counter has one frequency.
    """

    addition: Addition
    modules: tuple[str, ...] = ()
    start: str = ""
    beneath: tuple[str, ...] = ()
    console: str = "ttyS0"
    hypervisor: str = ""
    invariant_tsc: bool = False
