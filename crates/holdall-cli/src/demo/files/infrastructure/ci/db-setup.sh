#!/bin/sh
# Applies the migrations that the environment's database has not seen. On a roll back nothing is taken back: every
# migration only adds (expand), and what it replaces is dropped by a later one, when no code needs it (contract).
set -eu
PATH="$DEMO/bin:$PATH"
holdall demo-db --migrations api/migrations
