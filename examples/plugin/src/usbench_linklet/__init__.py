"""Linklet, as a method of usbench. Nothing is imported here: listing methods is quick."""
