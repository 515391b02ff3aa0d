#!/bin/sh
# What the client libraries of notify rely on.
set -eu
PATH="$DEMO/bin:$PATH"

id=$(holdall demo-check api POST /notifications --data '{"to": "grace@example.org", "text": "Hello"}' --status 201 --print /id)
holdall demo-check api GET "/notifications/$id" --contains '"to"' --contains '"text"' --contains '"state"'
holdall demo-check api GET /notifications/999999999 --status 404
holdall demo-check api POST /notifications --data 'this is not JSON' --status 400
