//go:build !unix

package main

import "os"

// die ends the process at once, without any cleanup.
func die() { os.Exit(137) }
