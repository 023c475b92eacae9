"""Namespaces that exist already: joined, kept by files, held under names."""
