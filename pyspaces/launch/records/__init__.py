"""What is reported about a launch: records, summaries, changes, and the files that hold them."""
