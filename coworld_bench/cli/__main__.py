import sys

from coworld_bench.cli import main

sys.exit(main())
