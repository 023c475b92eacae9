"""Run commands and Python functions in Linux namespaces."""

__version__ = "0.1.0"
