"""One module per wire format: what a body means, how an error looks, what a passing stream says.

Nothing in here does I/O or knows HTTP libraries.
"""
