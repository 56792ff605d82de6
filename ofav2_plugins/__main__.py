"""`python -m ofav2_plugins` runs `ofav2`."""

from .cli.main import main

main()
