//go:build unix

package child

import "syscall"

// Pause stops the child as SIGSTOP does, until Resume.
func (p *Process) Pause() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a paused child go on.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
