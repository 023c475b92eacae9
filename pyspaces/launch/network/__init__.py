"""The network of a command: the service of it, and the processes that carry connections."""
