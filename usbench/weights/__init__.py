"""Pretrained weights: the table of them, and the store that fetches and verifies them."""
