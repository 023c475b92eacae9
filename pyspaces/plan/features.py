"""FEATURES: what a launch can be asked for, beyond a command and its namespaces.

Pure; runs in any process. The order is that in which the settings are read: a feature sees the
parts of those before it.
"""

from __future__ import annotations

from pyspaces.features import clocks, environment, hostname, life, limits, loopback, outputs
from pyspaces.features.confinement import landlock, seccomp
from pyspaces.features.existing import values
from pyspaces.features.ids import capabilities, identity, maps
from pyspaces.mounts import feature as mounts

FEATURES = (
    values.FEATURE,  # before life: a hold has no launcher
    maps.FEATURE,
    identity.FEATURE,
    capabilities.FEATURE,  # after the identity: another user gets no new privileges
    landlock.FEATURE,
    seccomp.FEATURE,
    limits.FEATURE,
    hostname.FEATURE,
    clocks.FEATURE,
    mounts.FEATURE,  # after the capabilities: a command without any gets a guarded /proc
    loopback.FEATURE,
    environment.FEATURE,
    life.FEATURE,
    outputs.FEATURE,
)
