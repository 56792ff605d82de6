"""Namespace `ofav2.phases`: the phases of extended progressive shrinking (OFAv2 section 3.3)."""
