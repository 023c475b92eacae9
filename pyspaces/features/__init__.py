"""The features of a launch: one file or one sub-room each; none imports another."""
