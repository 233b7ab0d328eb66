"""Files that are written whole or not at all, downloads, and weights read without running code."""
