# Targets that need more than one command of the go tool. CONTRIBUTING.md describes them.

.PHONY: prove
prove: ## Run every rung of the proof at the size for a change; SIZE=nightly or release for more.
	go run ./test/prove -size $(or $(SIZE),change)
