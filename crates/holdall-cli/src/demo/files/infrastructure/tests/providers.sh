#!/bin/sh
# A message goes the whole way: rendered, scanned, accepted.
set -eu
PATH="$DEMO/bin:$PATH"

text=$(holdall demo-check template-preview POST /render --data '{"template": "reminder", "name": "Grace"}' --print /text)
holdall demo-check antivirus POST /scan --data "$text" --contains '"clean"'
holdall demo-check api POST /notifications --data '{"to": "grace@example.org", "text": "Reminder"}' --status 201
