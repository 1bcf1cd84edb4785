"""wxgate: a security gateway between WeChat and a CRM. ARCHITECTURE.md shows the way of a message."""

__version__ = "0.1.0"
