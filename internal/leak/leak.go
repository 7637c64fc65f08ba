// Package leak fails the tests of a package that leave goroutines behind. Every package whose tests start any has it in its
// TestMain. It is a package of its own, and not a library, so that the root module requires nothing more.
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

// patience is how long goroutines may take to end: some do so a moment after whoever they belong to.
const patience = 10 * time.Second

// Main runs the tests of a package, then ends with stop what they share, and ends the process: with a failure if a test has
// failed or goroutines are left.
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

// Left returns the stacks of the goroutines that do not end by themselves, besides the caller's own; "" if there are none.
func Left() string {
	http.DefaultClient.CloseIdleConnections() // which are nobody's in particular
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

// lasting are functions whose goroutines live as long as the process, once something has needed them.
var lasting = []string{"os/signal.signal_recv", "os/signal.loop", "runtime.ensureSigM"}

// Lasting names functions of a foreign package whose goroutines nobody can end. It must be called before Main.
func Lasting(functions ...string) { lasting = append(lasting, functions...) }

// others returns the stacks behind the first that are of no lasting goroutine.
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
