"""Task files made from data as people have it: `usbench data import`."""
