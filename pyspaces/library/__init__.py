"""Python functions in namespaces: the `multiprocessing` side."""
