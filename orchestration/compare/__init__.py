"""`footpath compare`: which pre-training works on this data, for these tasks, with few labels.

settings  what is compared: recipes, tasks, label shares, seeds; from options and a YAML file
recipes   named settings of pre-training; what is the same from scratch
recipe_file  that file, read and checked
inputs    what is missing of labels, sequences and head features is built
cells     what is measured once: its key, its file, what of it is there already
jobs      the processes that measure the missing cells
run       runs them side by side, and survives their faults and its own end
results   finished cells to table, significance, pictures, page
"""
