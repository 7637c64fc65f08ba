//go:build unix

// Package child runs a test binary again as worker processes. It keeps a ledger in which they write
// their actions, and which outlives them.
package child

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redisidem/redisidem/internal/leak"
)

// Lifetime is the maximum life of a child, whatever happens to the test.
const Lifetime = 5 * time.Minute

const (
	roleVariable   = "REDISIDEM_TEST_ROLE"
	ledgerVariable = "REDISIDEM_TEST_LEDGER"
)

// Main is the body of TestMain. It runs the tests or, in a child, the function of its role.
func Main(m *testing.M, roles map[string]func()) {
	role := os.Getenv(roleVariable)
	if role == "" {
		leak.Main(m)
	}
	run := roles[role]
	if run == nil {
		panic("unknown role " + role)
	}
	run()
}

// Process is a child.
type Process struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	lines  chan string
	ended  chan struct{} // closed when the child is gone
	err    error         // how it ended; may be read once ended is closed
}

// Start starts a child in a role, with more environment variables in the form "name=value". The
// child ends with the test at the latest. On Linux it also ends with this process.
func Start(t testing.TB, role string, ledger Ledger, variables ...string) (*Process, error) {
	return StartFor(t, Lifetime, role, ledger, variables...)
}

// StartFor is Start with a different maximum life of the child.
func StartFor(t testing.TB, life time.Duration, role string, ledger Ledger, variables ...string) (*Process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), life)
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), roleVariable+"="+role, ledgerVariable+"="+ledger.path)
	cmd.Env = append(cmd.Env, variables...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = DieWithParent()
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	p := &Process{cmd: cmd, cancel: cancel, lines: make(chan string, 64), ended: make(chan struct{})}
	var reading sync.WaitGroup
	reading.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	})
	go func() {
		reading.Wait() // before Wait, which closes the pipe
		p.err = cmd.Wait()
		cmd.Env = nil // a test keeps its children until it ends, and there can be many
		close(p.ended)
	}()
	t.Cleanup(p.Kill)
	return p, nil
}

// PID returns the child's process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Await blocks until the child has sent the line. It returns an error if the child ends first or
// patience runs out.
func (p *Process) Await(line string, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case got := <-p.lines:
			if got == line {
				return nil
			}
		case <-p.ended:
			select {
			case got := <-p.lines:
				if got == line {
					return nil
				}
			default:
				return fmt.Errorf("child %d ended without a word %q: %w", p.PID(), line, errors.Join(p.err))
			}
		case <-timer.C:
			return fmt.Errorf("child %d did not say %q within %v", p.PID(), line, patience)
		}
	}
}

// Wait blocks until the child has ended, and returns its error. It also returns an error if
// patience runs out.
func (p *Process) Wait(patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.ended:
		return p.err
	case <-timer.C:
		return fmt.Errorf("child %d did not end within %v", p.PID(), patience)
	}
}

// Kill sends SIGKILL to the child, and blocks until it is gone.
func (p *Process) Kill() {
	p.cancel() // kills it
	<-p.ended
}

// Killed reports whether SIGKILL ended the child. It blocks until the child is gone.
func (p *Process) Killed() bool {
	<-p.ended
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// Stop sends SIGSTOP to the child, and blocks until it has stopped. On systems other than Linux it
// returns [errors.ErrUnsupported].
func (p *Process) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("stop child %d: %w", p.PID(), err)
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		still, err := p.standsStill()
		if still || err != nil {
			return err
		}
		if time.Since(began) > 10*time.Second {
			return fmt.Errorf("child %d does not stand still", p.PID())
		}
	}
}

// Continue resumes a stopped child.
func (p *Process) Continue() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Die ends this process as kill -9 does.
func Die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

// Tell sends a line to the parent.
func Tell(line string) { fmt.Println(line) }

// Ledger is a file in which children write lines. The lines are in the order in which they were
// written, across all processes. A kill can tear the line that is being written where it crosses a
// page of memory. A torn line counts as not written.
type Ledger struct{ path string }

// These marks around a line make a torn line detectable.
const (
	lineBegin = "\n"
	lineEnd   = "\r"
)

// NewLedger creates a ledger that is removed with the test.
func NewLedger(t testing.TB) Ledger {
	t.Helper()
	l := Ledger{filepath.Join(t.TempDir(), "ledger")}
	if err := os.WriteFile(l.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return l
}

// Path returns the ledger's path. A test may keep its own files next to it.
func (l Ledger) Path() string { return l.path }

// Lines returns the lines that were written so far.
func (l Ledger) Lines(t testing.TB) (lines []string) {
	t.Helper()
	l.Each(t, func(line string) { lines = append(lines, line) })
	return lines
}

// Each calls do with each line that was written so far.
func (l Ledger) Each(t testing.TB, do func(line string)) {
	t.Helper()
	f, err := os.Open(l.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	s := bufio.NewScanner(f)
	s.Split(splitLines)
	for s.Scan() {
		if line, whole := strings.CutSuffix(s.Text(), lineEnd); whole {
			do(line)
		}
	}
	if err := s.Err(); err != nil {
		t.Fatal(err)
	}
}

// splitLines is a [bufio.SplitFunc]. Unlike [bufio.ScanLines] it leaves the end of the line in
// place.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.Index(data, []byte(lineBegin)); i >= 0 {
		return i + len(lineBegin), data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// Pen writes lines into a ledger. It is safe for concurrent use.
type Pen struct{ file *os.File }

// Open opens the ledger for writing.
func (l Ledger) Open() (Pen, error) {
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY, 0)
	return Pen{f}, err
}

// Own opens the ledger that a child received.
func Own() Pen {
	pen, err := Ledger{os.Getenv(ledgerVariable)}.Open()
	if err != nil {
		panic(err)
	}
	return pen
}

// Write appends a line.
func (p Pen) Write(format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	if _, err := p.file.WriteString(lineBegin + text + lineEnd); err != nil {
		panic(err)
	}
}

// Close closes the file.
func (p Pen) Close() error { return p.file.Close() }
