"""`usbench cache`: what lies in the cache folder, and clearing it."""
