"""The bottom of the house: data-set config, table schemas, paths, atomic publish.

Every other package may import this one; it imports none of them, and nothing heavy.
"""
