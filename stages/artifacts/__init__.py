"""The nouns on disk: datasets, weights, features and result tables. No other code knows a path or a file format."""
