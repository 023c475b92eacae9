"""Profiles: settings of a launch that are kept in a file, under a name. Loaded only on request."""
