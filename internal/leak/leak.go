// Package leak fails the tests of a package that leave goroutines behind. Every package whose tests
// start goroutines calls it in its TestMain. It replaces a library, so that the root module
// requires nothing more.
package leak

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// patience is how long goroutines may take to end after the tests.
const patience = time.Minute

// Main runs the tests of a package, calls stop to end what they share, and ends the process. The
// process fails if a test has failed or goroutines are left.
func Main(m *testing.M, stop ...func()) {
	code := m.Run()
	for _, f := range stop {
		f()
	}
	if left := Left(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines are left:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// Left returns the stacks of goroutines that do not end within a bound, except the caller's own, or
// "".
func Left() string {
	http.DefaultClient.CloseIdleConnections() // of the shared client
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		left := others(stacks())
		if len(left) == 0 || time.Now().After(deadline) {
			return strings.Join(left, "\n\n")
		}
	}
}

// stacks returns the stacks of all goroutines, the caller's first.
func stacks() string {
	for size := 1 << 18; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size {
			return string(buf[:n])
		}
	}
}

// lasting are functions whose goroutines live as long as the process.
var lasting = []string{"os/signal.signal_recv", "os/signal.loop", "runtime.ensureSigM"}

// Lasting names functions of other packages whose goroutines cannot be ended. It must be called
// before Main.
func Lasting(functions ...string) { lasting = append(lasting, functions...) }

// others returns the stacks except the first and those of lasting goroutines.
func others(all string) (left []string) {
	for _, stack := range strings.Split(strings.TrimSpace(all), "\n\n")[1:] {
		known := false
		for _, f := range lasting {
			known = known || strings.Contains(stack, f+"(") || strings.Contains(stack, f+".func")
		}
		if !known {
			left = append(left, stack)
		}
	}
	return left
}
