package main

import "syscall"

// dieWithParent lets a shop end with this process, even when that is killed.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
