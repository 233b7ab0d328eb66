"""`python -m usbench`."""

from usbench.cli.main import entry

entry()
