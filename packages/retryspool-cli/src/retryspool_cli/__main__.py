"""`python -m retryspool_cli` is `retryspool`."""

from retryspool_cli.main import main

if __name__ == "__main__":
    main()
