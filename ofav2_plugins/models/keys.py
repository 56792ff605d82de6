"""Names of weights: upstream's keys, old ones included, in the networks of this package."""

from __future__ import annotations


def upstream_key(key: str, own: set[str]) -> str:
    """The name that this network has for an upstream key, also for one of an old version or of a static network."""
    key = key.replace(".mobile_inverted_conv.", ".conv.")
    if key in own:
        return key
    for old, new in (
        (".bn.bn.", ".bn."),
        (".conv.conv.weight", ".conv.weight"),
        (".linear.linear.", ".linear."),
        (".linear.", ".linear.linear."),
        (".bn.", ".bn.bn."),
        (".conv.weight", ".conv.conv.weight"),
    ):
        if key.replace(old, new) in own:
            return key.replace(old, new)
    return key
