"""What people write: strict YAML with the place of every value, and problems that say where and why. Pure."""
