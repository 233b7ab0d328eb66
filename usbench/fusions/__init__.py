"""The fusion protocols: how the modalities of a patient become one mask."""
