package idemtest

import "context"

// TB is what a [Server] needs of a test. [testing.TB] has it, and so have the stand-ins of other test frameworks.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}
