"""The supernet, its static subnets, and how to build and initialise both."""
