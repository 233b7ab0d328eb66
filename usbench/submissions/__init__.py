"""Other people's results: packed by `usbench submit`, re-scored by `usbench verify`, read by the leaderboard.

A submission is data, never code: nothing of it is executed, unpickled or written to disk.
"""
