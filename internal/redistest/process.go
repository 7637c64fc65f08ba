package redistest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// process is a child process.
type process struct {
	cmd *exec.Cmd
	// done is closed when the process has ended and Wait has returned.
	done chan struct{}
}

// launch starts a command and appends its output to the file log.
func launch(words []string, dir string, env []string, log string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(context.Background(), words[0], words[1:]...), done: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.SysProcAttr = dir, out, out, dieWithParent()
	if len(env) > 0 {
		p.cmd.Env = append(os.Environ(), env...)
	}
	started := make(chan error)
	go func() {
		defer close(p.done)
		defer func() { _ = out.Close() }()
		// Linux ends the child when the thread that started it ends. Go ends threads at any time,
		// except a thread with a locked goroutine. This goroutine stays until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// running reports whether the process has not ended yet. A paused process is running.
func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill kills the process and waits until it has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// tail returns the last lines of a log file, for an error.
func tail(log string) string {
	const lines = 15
	text, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(string(bytes.TrimSpace(text)), "\n")
	if cut := len(all) - lines; cut > 0 {
		all = append([]string{fmt.Sprintf("(%d lines before)", cut)}, all[cut:]...)
	}
	return "the end of its log:\n\t" + strings.Join(all, "\n\t")
}
