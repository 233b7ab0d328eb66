"""Trains nnU-Net v2 on the training cases of one fold and predicts its test cases.

    PYTHON -c "import sys; sys.path.append(FOLDER); from nnunet_program.main import main; main()" JOB.json

It runs in an environment that has nnunetv2, by a Python of one's choice, and imports nothing of usbench. What
nnU-Net has functions for is done by them, a case at a time, so that a start after a kill does again only what
was half done. Lines of standard output that begin with `{"usbench"` say how far it is; the rest is nnU-Net's.

In the folder `work`: `raw`, `preprocessed` and `results` as nnU-Net names them, `planned.json` once the plans
are whole, `spent.json` with the seconds and the memory of all starts, `outcome.json` when all is done. Plans,
prepared cases, notes and checkpoints have digests: what an earlier start left is gone on with where they fit.
"""
