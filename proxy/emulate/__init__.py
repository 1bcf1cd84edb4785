"""WeChat, a CRM and their users on loopback: for the demo, for tests, for trying a configuration out."""
