"""The command line: words in, calls, words out."""
