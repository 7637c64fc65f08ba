package main

import (
	"fmt"
	"os"
)

// progress replaces the line at the end of a terminal; with an empty text it clears the line. It
// prints nothing if standard error is not a terminal.
func progress(text string) {
	if terminal(os.Stderr) {
		fmt.Fprint(os.Stderr, "\r\x1b[K"+text)
	}
}

// terminal reports whether a file is a terminal.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
