package child

import "syscall"

// dieWithParent lets a worker end with this process, even when that is killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
