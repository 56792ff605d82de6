"""`python -m ofav2_plugins` is `ofav2`."""

from .cli.main import main

main()
