"""Greedy choice of rows, on any Gram operator: features (n, d) or columns of a kernel."""
