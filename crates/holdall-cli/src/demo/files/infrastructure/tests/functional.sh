#!/bin/sh
# Each service does what it is there for, and together they do what notify is there for.
set -eu
PATH="$DEMO/bin:$PATH"

holdall demo-check template-preview POST /render --data '{"template": "welcome", "name": "Ada"}' --contains 'Hello Ada'
holdall demo-check antivirus POST /scan --data 'a harmless letter' --contains '"clean"'
holdall demo-check antivirus POST /scan --data 'EICAR-STANDARD-ANTIVIRUS-TEST-FILE' --contains '"infected"'
holdall demo-check document-download GET /documents/terms.txt --contains 'Terms of use'
holdall demo-check document-download GET /documents/none.txt --status 404

id=$(holdall demo-check api POST /notifications --data '{"to": "ada@example.org", "text": "Hello"}' --status 201 --print /id)
holdall demo-check api GET "/notifications/$id" --contains 'ada@example.org'
holdall demo-check admin GET /notifications --contains '"count"'
