"""Patients without a mask: their scans found, read, put on one grid and prepared as training data is."""
