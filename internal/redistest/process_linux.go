package redistest

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"time"
)

// dieWithParent makes a child end with this process, even when this process is killed. The child
// has its own process group. The kernel sends SIGCONT to an orphaned group, which would resume a
// paused server.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// pause stops the process and waits until it has stopped. The kernel does not stop it at once, so a
// request right after the signal may still be answered.
func (p *process) pause() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return until(5*time.Second, time.Millisecond, func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
		if err != nil {
			return err
		}
		// The state is the first field after the program's name, which is in parentheses and may
		// contain any character.
		_, state, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
		if len(state) == 0 || state[0] != 'T' {
			return fmt.Errorf("not paused: state %.1q", state)
		}
		return nil
	})
}

func (p *process) resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
