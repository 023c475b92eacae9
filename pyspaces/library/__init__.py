"""Run Python functions in namespaces: the `multiprocessing` interface."""
