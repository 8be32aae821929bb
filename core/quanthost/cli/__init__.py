"""The command line: ``main`` is the entry point of the script ``quanthost``."""

from quanthost.cli.app import main

__all__ = ["main"]
