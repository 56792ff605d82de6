"""`python -m ofav2_plugins` is `ofav2`."""

from .cli import main

main()
