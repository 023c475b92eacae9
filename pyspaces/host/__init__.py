"""What is on this host: its namespaces, who holds a name, what is allowed."""
