"""A run: from a plan to cells, each trained, predicted, scored and recorded."""
