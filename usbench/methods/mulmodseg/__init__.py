"""MulModSeg: an encoder and a decoder whose last layers are written by texts on modality and organ."""
