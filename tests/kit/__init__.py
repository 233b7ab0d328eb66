"""Makers that tests share: results, pages, faults, tiny networks and data sets."""
