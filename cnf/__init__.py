"""cnf: an XDP flow tracker and packet limiter for a Linux network node."""

__version__ = "0.1.0"
__commit__ = ""
"""Of an installed copy: deploy/install.sh and deploy/package.sh put it in."""

VERSION = f"{__version__} ({__commit__})" if __commit__ else __version__
"""What ``--version`` says."""
