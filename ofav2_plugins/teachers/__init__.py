"""Namespace `ofav2.teachers`: the teachers of the subnets of a phase."""
