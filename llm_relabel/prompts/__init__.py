"""A question to a judge, in words."""
