"""The checkout seen as the namespace package pacifica; never shipped."""
