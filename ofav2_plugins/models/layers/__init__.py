"""How the supernet computes: subclasses of upstream's dynamic layers."""
