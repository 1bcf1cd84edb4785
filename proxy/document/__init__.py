"""Bodies and query strings as flat lists of leaves that remember where they stood. Pure.

A document never becomes a tree of objects that is written anew: what no rule changes leaves byte for byte as it came.
`tree.Document` is what the readers (`xml_body`, `json_body`, `query`) return and what `render` writes.
"""
