# What is more than one command of the go tool. CONTRIBUTING.md tells what each is for.

.PHONY: prove
prove: ## Every rung of the proof, as large as every change runs it; SIZE=nightly or release for more.
	go run ./test/prove -size $(or $(SIZE),change)
