# The same steps as .ci/run takes; `just ci` is all of them.

default:
    @just --list

# Everything that has to hold before a change goes in
ci:
    .ci/run

# One step of it: packages, fmt, clippy, floors, tools, tests, docs, deny
step NAME:
    .ci/run {{NAME}}

fmt:
    cargo fmt --all

lint: (step "fmt") (step "clippy") (step "floors")

# All tests, those with real mounts too
test: (step "tools") (step "tests")

docs: (step "docs")

deny: (step "deny")

# The long form of what CI runs the first part of
soak:
    .ci/run tools soak
