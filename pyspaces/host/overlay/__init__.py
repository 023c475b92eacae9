"""The upper directory of an overlay that was kept: what it changes, and its changes written."""
