"""nnU-Net v2 as an outside pipeline; `nnunet_program` is what runs in its environment."""
