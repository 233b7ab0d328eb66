"""Zeus: segmentation of multimodal images under instructions that a language model writes."""
