"""The words of other tools: bwrap(1), unshare(1), nsenter(1), podman-run(1). For no launch."""
