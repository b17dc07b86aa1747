# What a developer types. Without just: the same lines by hand, and .ci/run for all of the check.

default:
    @just --list

# Format everything.
fmt:
    cargo fmt --all

# Lints, as CI sees them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Tests of the pure crates: seconds, no servers.
test-pure:
    cargo test --locked -p velero-model -p backup-plan

# All tests, against real servers.
test:
    cargo test --workspace --locked

# The image of the suite as an archive for docker load, ctr images import or skopeo.
image file="target/kubectl-backup-image.tar":
    cargo run --release --locked -p backup-tests --bin make-image -- {{file}}

# All that a release consists of, for linux on amd64 and arm64: archives, image, SBOMs, krew manifest, sums. It builds in the release profile by
# itself. Words: --download-url URL, --target TRIPLE, --with ARCHIVE, a folder.
release *words:
    cargo run --locked -p backup-tests --bin make-release -- {{words}}

# Writes the manifests that come from types.
manifests:
    UPDATE_MANIFESTS=1 cargo test --locked -p backup-tests --test suite manifests::crds

# A disaster and the way back.
demo *words:
    cargo demo {{words}}

# The figures of the README.
bench *words:
    cargo bench-suite {{words}}

# One fuzz target for a minute; needs nightly and cargo-fuzz.
fuzz target seconds="60":
    mkdir -p target/fuzz-{{target}}
    cargo +nightly fuzz run --fuzz-dir tests/fuzz {{target}} target/fuzz-{{target}} tests/fuzz/corpus/{{target}} -- -max_total_time={{seconds}}

# What CI runs.
ci:
    .ci/run
