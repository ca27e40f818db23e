"""Compare a model or rows with labels as a job; the report is printed as JSON, last on stdout.

    python jobs/evaluate.py --model NAME --data URI --output URI [key=value ...]
    ray job submit --working-dir . --runtime-env-json '{"env_vars": {"PYTHONPATH": "platform"}}' -- \\
        python jobs/evaluate.py --predictions s3://bucket/rows --data s3://bucket/labels
"""

import sys

from checkout import run

if __name__ == "__main__":
    sys.exit(run("evaluate"))
