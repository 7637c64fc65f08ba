package idemtest

import "context"

// TB is the part of a test that a [Server] needs. [testing.TB] has it, and so do the test types of
// other frameworks.
type TB interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}
