"""Methods, tasks and fusions of other people: where they are found, and the digest of their code."""
