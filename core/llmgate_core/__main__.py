"""`python -m llmgate_core` is `llmgate`."""

from .cli import main

if __name__ == "__main__":
    main()
