"""How a field is protected: ciphers, keys as handles, the token format. Pure; nonces are arguments.

docs/spec/token.md is the normative text of everything that leaves this package as bytes.
"""
