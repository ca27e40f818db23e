"""Bring labels of a public format into the row schema as a job; the report is printed as JSON, last on stdout.

    python jobs/import_dataset.py FORMAT SOURCE DESTINATION
    ray job submit --working-dir . --runtime-env-json '{"env_vars": {"PYTHONPATH": "platform"}}' -- \\
        python jobs/import_dataset.py auto s3://bucket/raw s3://bucket/labels
"""

import sys

from checkout import run

if __name__ == "__main__":
    sys.exit(run("data import"))
