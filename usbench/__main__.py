"""`python -m usbench`."""

from usbench.cli import entry

entry()
