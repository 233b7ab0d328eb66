"""Masks of new patients by finished runs, one or several together, written as files."""
