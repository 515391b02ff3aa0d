#!/bin/sh
# Everything is there and answers.
set -eu
PATH="$DEMO/bin:$PATH"

for service in api admin document-download template-preview antivirus; do
    holdall demo-check "$service" GET /health --contains '"ok"'
    holdall demo-check "$service" GET / --contains "$service"
done
