package leak

import (
	"os"
	"os/signal"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestGoroutineThatIsLeftIsFound(t *testing.T) {
	running, done := make(chan struct{}), make(chan struct{})
	defer close(done)
	go leftBehind(running, done)
	<-running
	if left := strings.Join(others(stacks()), ""); !strings.Contains(left, "leftBehind") {
		t.Errorf("found is only %q", left)
	}
}

func leftBehind(running, done chan struct{}) {
	close(running)
	<-done
}

func TestLastingGoroutinesAreNot(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt)
	defer signal.Stop(signals)
	for _, stack := range others(stacks()) {
		if strings.Contains(stack, "os/signal") {
			t.Errorf("found is %s", stack)
		}
	}
}
