"""Tracks: what finished runs' networks are tested on beside the clean test fold."""
