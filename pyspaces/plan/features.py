"""FEATURES: all features of a launch, loaded.

Pure; runs in any process. For help, translations and checks: a launch loads the features that its
plan names. Each is a field of `Plan`, and their order is that of the fields.
"""

from __future__ import annotations

from pyspaces.plan.plan import PARTS

FEATURES = tuple(part.feature for part in PARTS.values())
