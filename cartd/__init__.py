"""Turns a list of file ids into one tar that can be downloaded, resumed and trusted."""
