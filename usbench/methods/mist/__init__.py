"""MIST as an outside pipeline: `method.py` describes it, `mist_program` is what runs in its environment."""
