package child

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// dieWithParent lets a worker end with this process, even when that is killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// standsStill reports whether the child was stopped.
func (p *Process) standsStill() (bool, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return false, err
	}
	// The state is the first field behind the program's name, which is in parentheses and may hold
	// anything.
	return bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T")), nil
}
