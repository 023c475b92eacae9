"""What is told of a launch: records, reports, differences, and the files that hold them."""
