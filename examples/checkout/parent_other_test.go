//go:build !linux

package main

import "syscall"

// dieWithParent does nothing where the system offers nothing like it.
func dieWithParent() *syscall.SysProcAttr { return nil }
