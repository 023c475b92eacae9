"""The host: its namespaces, the targets that can be entered, and what it allows."""
