"""Train a network as a job; the report is printed as JSON, last on stdout.

    python jobs/train.py --recipe NAME --data URI --output URI [key=value ...]
    ray job submit --working-dir . --runtime-env-json '{"env_vars": {"PYTHONPATH": "platform"}}' -- \\
        python jobs/train.py --recipe mkdnet --data s3://bucket/boxes --output s3://bucket/run
"""

import sys

from checkout import run

if __name__ == "__main__":
    sys.exit(run("train"))
