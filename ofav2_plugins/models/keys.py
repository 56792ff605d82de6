"""Translation of upstream's weight names, including old ones, to those of this package's networks."""

from __future__ import annotations


def upstream_key(key: str, own: set[str]) -> str:
    """This network's name for an upstream key, including keys of old versions and of static networks."""
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
