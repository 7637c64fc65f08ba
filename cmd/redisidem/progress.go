package main

import (
	"fmt"
	"os"
	"time"
)

// progress replaces the line at the end of a terminal; with an empty text it clears the line. It
// prints nothing if standard error is not a terminal.
func progress(text string) {
	if terminal(os.Stderr) {
		fmt.Fprint(os.Stderr, "\r\x1b[K"+text)
	}
}

// during shows at the end of a terminal that a command goes on, until it is stopped. A command that
// ends within flushEvery shows nothing.
func during(what string) (stop func()) {
	if !terminal(os.Stderr) {
		return func() {}
	}
	ended, stopped := make(chan struct{}), make(chan struct{})
	began, tick := time.Now(), time.NewTicker(flushEvery)
	go func() {
		defer close(stopped)
		defer tick.Stop()
		for shows := false; ; shows = true {
			select {
			case <-tick.C:
				progress(what + ", " + span(time.Since(began)) + " ")
			case <-ended:
				if shows {
					progress("")
				}
				return
			}
		}
	}()
	return func() {
		close(ended)
		<-stopped
	}
}

// terminal reports whether a file is a terminal.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
