"""Converters of public data sets to the interchange format, one a module."""
