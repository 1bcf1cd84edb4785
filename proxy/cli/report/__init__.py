"""What `wxgate policy check` and `test` found, written for people and for machines: one renderer in each file.

Every renderer takes names and texts as they come, hostile ones too, and makes them safe for its format.
"""
