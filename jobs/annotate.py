"""Annotate a video archive as a job; the report is printed as JSON, last on stdout.

    python jobs/annotate.py SOURCE... --output URI [key=value ...]
    ray job submit --working-dir . --runtime-env-json '{"env_vars": {"PYTHONPATH": "platform"}}' -- \\
        python jobs/annotate.py s3://bucket/videos --output s3://bucket/rows
"""

import sys

from checkout import run

if __name__ == "__main__":
    sys.exit(run("annotate"))
