package httpidem_test

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
)

// TestFullDiskRunsNothing runs in a process of its own, in which files can have 80 KiB: its writes
// fail as on a full disk, in the middle of a body.
func TestFullDiskRunsNothing(t *testing.T) {
	t.Parallel()
	const inChild = "REDISIDEM_TEST_FULL_DISK"
	if os.Getenv(inChild) == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestFullDiskRunsNothing$", "-test.count=1")
		child.Env = append(os.Environ(), inChild+"=1")
		if text, err := child.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		return
	}
	spool := newSpool(t, nil)
	signal.Ignore(syscall.SIGXFSZ)
	limit := &syscall.Rlimit{Cur: 80 << 10, Max: 80 << 10}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, limit); err != nil {
		t.Fatal(err)
	}
	refusesLargeBodies(t, spool)
}
