"""`python -m proxy` is `wxgate`."""

from proxy.cli import main

main()
