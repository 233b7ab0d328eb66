"""MedVisionLlama: a vision transformer of volumes with one frozen block of a language model in it."""
