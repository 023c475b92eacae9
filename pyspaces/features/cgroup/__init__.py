"""Limits of all processes of a command together: a cgroup of its own, and where it can be."""
