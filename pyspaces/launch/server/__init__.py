"""The launch server: a small interpreter that creates the children of a big program."""
