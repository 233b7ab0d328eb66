"""The scores of one patient's mask, and their means."""
