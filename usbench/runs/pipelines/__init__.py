"""A cell whose masks an outside pipeline makes: its folder, its calls, and the merging of modalities."""
