"""Methods: the contract they meet, where they are found, and those that are more than a network."""
