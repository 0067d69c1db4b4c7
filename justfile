# What a developer runs here; `just` alone lists it.

_list:
    @just --list

# All that has to hold before a change goes in, as the checks on a new machine run it
check:
    .ci/run

# The tests, as the README has it
test:
    cargo test --workspace

# The house rules
tidy:
    cargo xtask tidy

# Exedra and a stock Codex as real processes, each at either end
interop:
    cargo xtask interop

# Figures beside a stock Codex, from a release build
bench *ARGS:
    cargo xtask bench {{ARGS}}

# The seeded tests at full count, from a release build
soak *ARGS:
    cargo xtask soak {{ARGS}}

# Licences, banned crates, sources
deny:
    cargo deny check licenses bans sources
