"""`python -m weighbridge` is the command `weigh`."""

from weighbridge.cli import main

if __name__ == "__main__":
    main(prog_name="weigh")
