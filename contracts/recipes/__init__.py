"""Recipes of pre-training and the jobs that run them, validated where they are written.

A recipe is a method with its options, an encoder with its options, and the settings of training
that all share. The classes in `models/` take these objects and declare no options of their own; a
method or an encoder is a file here and a file there. Nothing here needs torch.
"""
