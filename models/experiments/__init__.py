"""Experiments: which pre-training works on this data, for these tasks, with few labels.

planning  a comparison and its inputs -> trials, cells, and the jobs of those that are missing
cells     what is measured once: its key, its files, what of it is there already
results   finished cells -> table, significance, pictures, page

Nothing here starts a process: who runs a job is free to do it on any machine that sees the lake.
"""
