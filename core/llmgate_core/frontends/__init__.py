"""The HTTP rims: access, exchange of bytes, and one module per API."""
