"""What authors write, and what it does to a message. Pure.

`compile.compile_policy` turns files into a `compiled.Policy` or a full list of problems; `plan.make_plan` decides every
leaf of one message; `carry_out.carry_out` does what the plan says. `wxgate policy explain` runs the same three.
"""
