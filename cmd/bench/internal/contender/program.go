package contender

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// program is built from this repository when the first contender needs it, and removed when the
// last one releases it.
type program struct {
	source string // the package

	mu    sync.Mutex
	users int
	dir   string // its path while it has users
}

// acquire returns the path of the program's file. The caller must call release. The error matches
// ErrUnable if the source is missing.
func (p *program) acquire(ctx context.Context) (file string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	file = filepath.Join(p.dir, "program")
	if p.users > 0 {
		p.users++
		return file, nil
	}
	out, err := exec.CommandContext(ctx, "go", "list", p.source).CombinedOutput() //nolint:gosec // a constant
	if err != nil {
		return "", fmt.Errorf("%w: %s is not here to be built, for this is not its repository: %w: %s", ErrUnable, p.source, err, out)
	}
	dir, err := os.MkdirTemp("", "redisidem-bench")
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "program")
	out, err = exec.CommandContext(ctx, "go", "build", "-o", file, p.source).CombinedOutput() //nolint:gosec // a constant
	if err != nil {
		return "", errors.Join(fmt.Errorf("building %s: %w: %s", p.source, err, out), os.RemoveAll(dir))
	}
	p.users, p.dir = 1, dir
	return file, nil
}

// release ends a use of the program.
func (p *program) release() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users--
	if p.users > 0 {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// process is a running program.
type process struct {
	program *program
	command *exec.Cmd // nil before it is started
}

// start starts a program and returns its address. The caller must call stop.
func start(ctx context.Context, p *program, args ...string) (running *process, url string, err error) {
	file, err := p.acquire(ctx)
	if err != nil {
		return nil, "", err
	}
	running = &process{program: p}
	command := exec.Command(file, args...) //nolint:gosec,noctx // just built; stop ends it
	log, err := command.StderrPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return nil, "", errors.Join(err, running.stop())
	}
	running.command = command
	lines := bufio.NewScanner(log)
	var last string
	for lines.Scan() {
		var entry struct{ Msg, URL string }
		if err := json.Unmarshal(lines.Bytes(), &entry); err == nil && entry.Msg == "serving" {
			go func() {
				_, _ = io.Copy(io.Discard, log) // the process must not block on writing
			}()
			return running, entry.URL, nil
		}
		last = lines.Text()
	}
	return nil, "", errors.Join(fmt.Errorf("%s does not serve: %s", p.source, last), running.stop())
}

// stop ends the process and releases its program.
func (p *process) stop() error {
	var err error
	if p.command != nil {
		err = p.command.Process.Signal(os.Interrupt)
		if errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		ended := time.AfterFunc(patience, func() { _ = p.command.Process.Kill() })
		_ = p.command.Wait() // its exit status does not matter
		ended.Stop()
	}
	return errors.Join(err, p.program.release())
}
