"""The supernet, the static subnets it yields, and how both are built and initialised."""
