"""Why does it not work? What `llmgate doctor` looks at, each thing in a module of its own.

What is found is computed from values; the few functions that ask (files, upstreams, a port) say so, and none raises.
"""
