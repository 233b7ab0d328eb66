"""Results on disk: their schema, reading and writing them, and which of them tables can use."""
