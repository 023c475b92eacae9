"""The subcommands, one file each: turn options into a mapping, make one call, print the result."""
