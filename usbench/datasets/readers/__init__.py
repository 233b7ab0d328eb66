"""The readers of the data sets' own layouts."""
