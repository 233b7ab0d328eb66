"""The tests that usbench has for every method; `pytest -m slow` runs the long ones."""

from usbench_linklet.network import METHOD

from usbench.testing import MethodTests


class TestLinklet(MethodTests):
    method = METHOD
