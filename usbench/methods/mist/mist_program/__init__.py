"""What runs in an environment that has MIST; it imports nothing of usbench."""
