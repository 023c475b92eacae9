"""What a launch can be asked for: one file, or one room, for each thing; none imports another."""
