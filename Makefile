# Everything a developer runs; `make help` says what each target does.
# Recipes are single commands without a shell around them, so that an interrupt reaches the program that cleans up.

MAKEFLAGS += --no-print-directory
BIN := node_modules/.bin
# SUM=no leaves the closing total to a caller that adds up several runs.
RUN := node --enable-source-maps dist/test/run.js $(if $(filter no,$(SUM)),--no-sum)
export HOLD RUNS MUTANT SCENARIO JOBS PART

.PHONY: help setup demo test check unit host kernel units bench bench-session bench-streams bench-recovery nat-table sim fuzz leaks mutants soak bench-base clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1 \t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 24

setup: ## install what is missing, build; needs root for missing Debian packages
	@scripts/setup

demo: setup ## two homes, two supernodes and a tunnel between them on this machine; HOLD=1 keeps it up
	@node --enable-source-maps dist/chaos/demo.js

test: setup check ## check, unit and host
	@$(RUN) unit host

check: setup ## format and lint, types, the core without platform types, the wire contract
	@$(BIN)/biome check --error-on-warnings
	@$(BIN)/tsc -p tsconfig.core.json
	@$(BIN)/buf lint

unit: setup ## decisions, contracts and rendered text: no root, no network
	@$(RUN) unit

host: setup ## real daemons and packets in network namespaces; needs root
	@$(RUN) host

kernel: setup ## what test/kernel/files.txt lists, in a virtual machine with kernel WireGuard
	@scripts/setup kernel
	@test/kernel/vm -t 3600 -- $(RUN) kernel

bench: setup ## vpnd beside coturn, nebula, n2n, tinc, openvpn, NATS, Mosquitto; PART=relay for one part, RUNS=1 for short
	@scripts/setup bench
	@node --enable-source-maps dist/bench/beside/main.js

units: setup ## the systemd units under a systemd of their own, booted twice; needs root
	@scripts/setup units
	@scripts/try-units

bench-session: setup ## how fast sessions open, and what forwarding and idle clients cost
	@node --enable-source-maps dist/bench/session.js

bench-streams: setup ## what 1,000, 5,000 and 15,000 streams cost one supernode, and a storm of 10,000; STREAMS="1000" for less; needs root
	@node --enable-source-maps dist/bench/streams.js $(STREAMS)

bench-recovery: setup ## what sessions survive, and for how long traffic stands still; RUNS=30 for the figures in docs
	@node --enable-source-maps dist/bench/recovery.js $(EVENTS)

mutants: setup ## make known mistakes on purpose and see the tests notice; needs root; MUTANT=05 for some
	@node --enable-source-maps dist/test/mutants/run.js

bench-base: setup ## base with a directory of SUPERNODES=1000 and PEERS=1000000: rates, memory, start, what operators ask
	@node --enable-source-maps dist/bench/base.js

soak: setup ## sessions that come and go for hours with faults mixed in, and whether anything grows; HOURS=2 RATE=10; needs root
	@node --enable-source-maps dist/bench/soak.js

nat-table: setup ## which pair of NAT kinds gives which path, tried with real daemons
	@node --enable-source-maps dist/bench/nat-table.js

fuzz: setup ## a million inputs for everything that reads what others send; TARGET=offer N=1000 SEED=7 for less, INPUT=file for one
	@node --enable-source-maps dist/test/fuzz/main.js

sim: setup ## the whole overlay in virtual time, faults drawn from seeds; SEEDS=1000 FROM=1, SEED=7 for one again, PLANTED=all for known mistakes
	@node --enable-source-maps dist/test/sim/engine/$(if $(PLANTED),planted-main,main).js

leaks: setup ## what leaves a client outside its tunnels while things change, by recordings; RUNS=20 for the table in docs; needs root
	@node --enable-source-maps dist/chaos/leaks/main.js $(EVENTS)

chaos: setup ## faults of every kind over real daemons, with a picture of each in chaos-report; SCENARIO=X3 for one, X for a group, list; needs root
	@node --enable-source-maps dist/chaos/harness/main.js

chaos-kernel: setup ## some of them in a virtual machine with kernel WireGuard, delay and loss
	@scripts/setup kernel
	@test/kernel/vm -t 7200 -- node --enable-source-maps dist/chaos/harness/main.js kernel $(SCENARIO)

clean: ## remove what killed tests left in the system, and everything built
	@scripts/clean
