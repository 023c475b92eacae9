"""Ways into a network namespace, and out of it: values, their grammar, and allow-lists of hosts."""
