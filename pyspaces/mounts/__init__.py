"""What a command sees of the file system: mounts in its own mount namespace."""
