"""How many descriptors there can be: RLIMIT_NOFILE of getrlimit(2).

Runs in the helper processes of a network.
"""

from __future__ import annotations

import resource  # here: who has given up its rights may not find it any more


def descriptors_limit(most: int) -> int:
    """Raise the limit on descriptors as far as it goes, and return how many there can be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return min(most, soft) if soft != resource.RLIM_INFINITY else most
