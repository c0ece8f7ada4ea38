"""Write the small random pair that `make demo` runs: a model in every particular but that it has learnt nothing."""

import sys
from pathlib import Path

from eardrop.bench.pairs import write_pair

text, projector = write_pair("micro", Path(sys.argv[1]))
print(f"A random model was written: {text} and {projector}.", file=sys.stderr)
print("It has learnt nothing: what follows is noise, and shows that the machinery runs.", file=sys.stderr)
