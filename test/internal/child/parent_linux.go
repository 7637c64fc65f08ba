package child

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
)

// DieWithParent makes a child end with this process, even when this process is killed.
func DieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

// standsStill reports whether the child is stopped.
func (p *Process) standsStill() (bool, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		return false, err
	}
	// The state is the first field after the program's name, which is in parentheses and may
	// contain any character.
	return bytes.HasPrefix(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" T")), nil
}
