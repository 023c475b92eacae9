"""One file per subcommand: options to a mapping, one call, and text for people."""
