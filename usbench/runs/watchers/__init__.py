"""The watchers that usbench brings: what a terminal shows, the log of a run, and experiment trackers."""
