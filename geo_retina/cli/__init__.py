"""The command line: parses, calls one function of the API, prints. Computes nothing."""
