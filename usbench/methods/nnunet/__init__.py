"""nnU-Net v2 as an outside pipeline: `method.py` describes it, `nnunet_program` is what runs in its environment."""
