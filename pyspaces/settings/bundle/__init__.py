"""OCI bundles: a directory with a config.json, as settings of a launch. Loaded only on request."""
