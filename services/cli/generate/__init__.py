"""`castalia generate`: a verb for each thing that some model makes, by task, never by family.

`group.py` is the group, `products.py` the table of what is asked where and which types of file it comes in.
"""
