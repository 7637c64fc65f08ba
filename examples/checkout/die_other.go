//go:build !unix

package main

import "os"

// die ends the process at once: nothing is put in order.
func die() { os.Exit(137) }
