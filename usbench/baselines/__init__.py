"""The networks of the benchmark, one file each, each an encoder and a decoder."""
