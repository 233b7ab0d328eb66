"""`usbench matrix`: a whole table of cells, computed by one command, here or on a cluster.

The function is `usbench.matrix`; it lies in `usbench.matrices.start`.
"""
