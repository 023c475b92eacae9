"""The services for namespaces that exist, or stay: joined, kept by files, found by a name."""
