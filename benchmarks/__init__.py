"""Measurements as ratios: each figure beside its limit or a peer, in one run, medians of rounds."""
